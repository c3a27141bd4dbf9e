"""The body of a request on its way into an upload."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable
from typing import Protocol

from starlette.requests import Request

from slipway.api.registry.bodies import Pace, Window, pieces
from slipway.content import BlobUpload
from slipway.errors import Invalid

_PIECE = 1024 * 1024
_FIRST = 2 * _PIECE
_LITTLE = 64 * 1024
_BODY = "slipway.request.body"


class Source(Protocol):
    """A body that comes into the reader's own memory; see ``slipway.app.bodies``."""

    @property
    def length(self) -> int: ...

    async def readinto(self, buffer: memoryview) -> int:
        """How many bytes came, 0 at the end. Raises ``ConnectionError`` when the client has left."""


class Inflow:
    """Appends in large pieces, in threads: while one hashes and writes, the next piece arrives.

    The upload is opened with the first of them (``begin``, which may block), so that a small body is one turn in a
    thread, from opening to closing.
    """

    def __init__(self, begin: Callable[[], BlobUpload]) -> None:
        self._begin = begin
        self._upload: BlobUpload | None = None

    async def take(self, request: Request) -> bytes | memoryview:
        """Append the body but for its end, which is returned. When the body breaks off, all that came is appended."""
        source: Source | None = request.scope.get("extensions", {}).get(_BODY)
        if source is not None:
            return await self._take_from(source, request.state.pace)
        held: list[bytes] = []
        size, enough = 0, _FIRST
        appending: asyncio.Future[BlobUpload] | None = None
        try:
            async for chunk in pieces(request, request.state.pace):
                held.append(chunk)
                size += len(chunk)
                if size >= enough:
                    if appending is not None:
                        await asyncio.shield(appending)
                    data = b"".join(held)
                    whole = size - size % _PIECE
                    appending = self._appending(memoryview(data)[:whole])
                    held, size, enough = [data[whole:]], size - whole, _PIECE
        except BaseException:
            await self._keep(appending, b"".join(held))
            raise
        if appending is not None:
            await appending
        return b"".join(held)

    async def _take_from(self, source: Source, pace: Pace) -> memoryview:
        """The same with two buffers that take turns: one is filled while the other is appended."""
        window = Window(pace)
        filling = _memory(min(_FIRST, source.length))
        other: memoryview | None = None
        appending: asyncio.Future[BlobUpload] | None = None
        left, filled = source.length, 0
        try:
            while count := await window.wait(source.readinto(filling[filled:])):
                filled, left = filled + count, left - count
                if filled < len(filling) or not left:
                    continue
                if appending is not None:
                    await asyncio.shield(appending)
                appending = self._appending(filling)
                if other is None:
                    other = _memory(_PIECE)
                filling, other, filled = other, filling[:_PIECE], 0
        except BaseException as error:
            await self._keep(appending, filling[:filled])
            if isinstance(error, ConnectionError):
                raise Invalid("the client went away in the middle of the upload") from error
            raise
        if appending is not None:
            await appending
        return filling[:filled]

    def _appending(self, data: memoryview) -> asyncio.Future[BlobUpload]:
        return asyncio.ensure_future(asyncio.to_thread(self.append, data))

    async def _keep(self, appending: asyncio.Future[BlobUpload] | None, rest: bytes | memoryview) -> None:
        if appending is not None:
            await appending
        await asyncio.to_thread(self.append, rest)

    def append(self, data: bytes | memoryview) -> BlobUpload:
        """Blocks. Raises what opening and appending do."""
        if self._upload is None:
            self._upload = self._begin()
        if data:
            self._upload.append(data)
        return self._upload

    def end(self, rest: bytes | memoryview) -> int:
        """Append ``rest`` and close; how much the upload has now. Blocks."""
        try:
            return self.append(rest).offset
        finally:
            self.close()

    def close(self) -> None:
        """What was appended is kept. Idempotent. Blocks."""
        if self._upload is not None:
            self._upload.close()


def _memory(size: int) -> memoryview:
    """Of the size only that part takes room that is written to: clients may promise much and send nothing."""
    return memoryview(bytearray(size)) if size <= _LITTLE else memoryview(mmap.mmap(-1, size))
