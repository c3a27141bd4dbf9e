"""Request bodies, from clients that may be slow, but not for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from slipway.errors import Invalid

LEAST_BYTES = 64 * 1024


class TooSlow(Invalid):
    """A client that holds a connection and sends next to nothing (HTTP 408). What it sent is kept."""


@dataclass(frozen=True, slots=True)
class Pace:
    """At least ``least`` bytes of a body in every ``seconds``: a pause is fine, a trickle is not."""

    seconds: float = 120.0
    least: int = LEAST_BYTES


DEFAULT_PACE = Pace()


async def pieces(request: Request, pace: Pace) -> AsyncIterator[bytes]:
    """The body as it comes in. Raises ``TooSlow``, and ``Invalid`` when the client goes away in the middle."""
    loop = asyncio.get_running_loop()
    stream = request.stream()
    window, end = 0, loop.time() + pace.seconds
    try:
        while True:
            async with asyncio.timeout_at(end):
                chunk = await anext(stream)
            came = loop.time()
            yield chunk
            end += loop.time() - came  # what the server does with the bytes is not the client's time
            window += len(chunk)
            if window >= pace.least:
                window, end = 0, loop.time() + pace.seconds
    except StopAsyncIteration:
        return
    except TimeoutError as error:
        raise TooSlow(
            f"fewer than {pace.least} bytes came in {pace.seconds:g} seconds",
            hint="what has arrived is kept: resume the upload",
        ) from error
    except ClientDisconnect as error:
        raise Invalid("the client went away in the middle of the upload") from error
