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
MOST_WAITING = 16 * 1024 * 1024  # bytes for a client that does not read
Work = Callable[[Progress], Awaitable[dict[str, Any]]]


def stream(work: Work) -> StreamingResponse:
    """The events of ``work`` as they come, then ``done`` with its result or ``error``.

    When the client goes away the work is cancelled, and cleans up after itself. Of what a client does not take in time
    events are left out, which a warning says: work waits for nobody, and what waits is held in memory.
    """
    return StreamingResponse(_events(work), media_type=NDJSON)


class _Waiting:
    """Lines on their way to a client."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._size = 0
        self._left_out = 0

    def add(self, event: Event) -> None:
        line = _line(event)
        if self._size + len(line) > MOST_WAITING:
            self._left_out += 1
            return
        self._say_what_is_left_out()
        self._put(line)

    def add_last(self, event: Event) -> None:
        """One that has to be there."""
        self._say_what_is_left_out()
        self._put(_line(event))

    def close(self) -> None:
        self._put(b"")

    def _say_what_is_left_out(self) -> None:
        if self._left_out:
            text = f"{self._left_out} lines left out: they were not read in time"
            self._put(_line({"event": "warning", "text": text}))
            self._left_out = 0

    def _put(self, line: bytes) -> None:
        self._size += len(line)
        self._lines.put_nowait(line)

    async def next(self) -> bytes:
        """Nothing after the end."""
        line = await self._lines.get()
        self._size -= len(line)
        return line


async def _events(work: Work) -> AsyncIterator[bytes]:
    waiting = _Waiting()
    task = asyncio.create_task(_finished(work, waiting))
    try:
        while line := await waiting.next():
            yield line
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _finished(work: Work, waiting: _Waiting) -> None:
    try:
        waiting.add_last({"event": "done", "result": await work(waiting.add)})
    except Exception as error:
        waiting.add_last(failure(error))
    finally:
        waiting.close()


def failure(error: BaseException) -> dict[str, Any]:
    """The event that says it. What nobody expected is the log's."""
    if isinstance(error, SlipwayError):
        return {"event": "error", **body(error)}
    log.error("an unexpected error", exc_info=error)
    message = "an unexpected error in the server"
    return {"event": "error", "kind": "internal", "message": message, "hint": "its log has the details"}


def lines(events: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """Events that are there already or follow, without a result."""

    async def encoded() -> AsyncIterator[bytes]:
        async for event in events:
            yield _line(event)

    return StreamingResponse(encoded(), media_type=NDJSON)


def _line(event: Event) -> bytes:
    return json.dumps(dict(event)).encode() + b"\n"
