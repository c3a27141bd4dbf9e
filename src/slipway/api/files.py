"""A part of a file as a response, also of one that is still being written.

Handed to the kernel where the server can, else read in large pieces.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import BinaryIO

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slipway.errors import SlipwayError
from slipway.registry.arriving import Arriving

_PIECE = 1024 * 1024
_ZERO_COPY = "http.response.zerocopysend"


class FileSlice(Response):
    """``count`` bytes of ``handle`` from ``first`` on. The response closes the handle."""

    def __init__(
        self, handle: BinaryIO, first: int, count: int, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, status, {**headers, "Content-Length": str(count)})
        self._handle = handle
        self._first = first
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._handle:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            file = _descriptor(self._handle) if _ZERO_COPY in scope.get("extensions", {}) else None
            if self._count and file is not None:
                await send({"type": _ZERO_COPY, "file": file, "offset": self._first, "count": self._count})
            else:
                await self._read(send)
            await send({"type": "http.response.body"})

    async def _read(self, send: Send) -> None:
        await asyncio.to_thread(self._handle.seek, self._first)
        left = self._count
        while left and (data := await asyncio.to_thread(self._handle.read, min(_PIECE, left))):
            left -= len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})


class ArrivingSlice(Response):
    """``count`` bytes from ``first`` on of a blob that is being fetched, as they come.

    When they turn out to be others than they should, or come no further, the connection ends short of them.
    """

    def __init__(
        self, arriving: Arriving, first: int, count: int, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, status, {**headers, "Content-Length": str(count)})
        self._arriving = arriving
        self._first = first
        self._end = first + count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        zero_copy = _ZERO_COPY in scope.get("extensions", {})
        file, position = self._arriving.fileno(), self._first
        try:
            while position < self._end:
                ready = await self._arriving.until(position, self._end)
                if not zero_copy:
                    ready = min(ready, position + _PIECE)
                    data = await asyncio.to_thread(os.pread, file, ready - position, position)
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                else:
                    count = ready - position
                    await send({"type": _ZERO_COPY, "file": file, "offset": position, "count": count})
                position = ready
        except SlipwayError:
            return  # an answer without its end: the server closes the connection
        await send({"type": "http.response.body"})


def _descriptor(handle: BinaryIO) -> int | None:
    """Of a file on this machine; what comes out of a bucket has none."""
    try:
        return handle.fileno()
    except (OSError, AttributeError):
        return None
