"""Long work as a stream of events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import StreamingResponse

from slipway.api.platform.errors import body
from slipway.base.progress import Event, Progress
from slipway.errors import SlipwayError

log = logging.getLogger(__name__)
NDJSON = "application/x-ndjson"
Work = Callable[[Progress], Awaitable[dict[str, Any]]]


def stream(work: Work) -> StreamingResponse:
    """The events of ``work`` as they come, then ``done`` with its result or ``error``.

    When the client goes away the work is cancelled, and cleans up after itself.
    """
    return StreamingResponse(_events(work), media_type=NDJSON)


async def _events(work: Work) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[Event | None] = asyncio.Queue()
    task = asyncio.create_task(_finished(work, queue))
    try:
        while (event := await queue.get()) is not None:
            yield json.dumps(dict(event)).encode() + b"\n"
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _finished(work: Work, queue: asyncio.Queue[Event | None]) -> None:
    try:
        result = await work(queue.put_nowait)
        queue.put_nowait({"event": "done", "result": result})
    except SlipwayError as error:
        queue.put_nowait({"event": "error", **body(error)})
    except Exception:
        log.exception("an unexpected error")
        message = "an unexpected error in the server"
        queue.put_nowait(
            {"event": "error", "kind": "internal", "message": message, "hint": "its log has the details"}
        )
    finally:
        queue.put_nowait(None)


def lines(events: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """Events that are there already or follow, without a result."""

    async def encoded() -> AsyncIterator[bytes]:
        async for event in events:
            yield json.dumps(event).encode() + b"\n"

    return StreamingResponse(encoded(), media_type=NDJSON)
