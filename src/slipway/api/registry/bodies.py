"""Request bodies, from clients that may be slow, but not for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
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


class Window:
    """Looks to it that a client keeps a pace."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._bytes = 0
        self._end = self._loop.time() + pace.seconds
        self._came = 0.0

    async def wait(self, piece: Awaitable[int]) -> int:
        """Wait for a piece of some bytes. Raises ``TooSlow``."""
        if self._came:
            self._end += (
                self._loop.time() - self._came
            )  # what the server does with the bytes is not the client's time
        try:
            async with asyncio.timeout_at(self._end):
                count = await piece
        except TimeoutError as error:
            raise TooSlow(
                f"fewer than {self._pace.least} bytes came in {self._pace.seconds:g} seconds",
                hint="what has arrived is kept: resume the upload",
            ) from error
        self._came = self._loop.time()
        self._bytes += count
        if self._bytes >= self._pace.least:
            self._bytes, self._end = 0, self._came + self._pace.seconds
        return count


async def pieces(request: Request, pace: Pace) -> AsyncIterator[bytes]:
    """The body as it comes in. Raises ``TooSlow``, and ``Invalid`` when the client goes away in the middle."""
    stream = request.stream()
    window = Window(pace)
    chunk = b""

    async def following() -> int:
        nonlocal chunk
        chunk = await anext(stream)
        return len(chunk)

    try:
        while True:
            await window.wait(following())
            yield chunk
    except StopAsyncIteration:
        return
    except ClientDisconnect as error:
        raise Invalid("the client went away in the middle of the upload") from error
