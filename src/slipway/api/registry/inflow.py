"""The body of a request on its way into an upload."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request

from slipway.api.registry.bodies import pieces
from slipway.content import BlobUpload

_PIECE = 1024 * 1024
_FIRST = 2 * _PIECE


class Inflow:
    """Appends in large pieces, in threads: while one hashes and writes, the next piece arrives.

    The upload is opened with the first of them (``begin``, which may block), so that a small body is one turn in a
    thread, from opening to closing.
    """

    def __init__(self, begin: Callable[[], BlobUpload]) -> None:
        self._begin = begin
        self._upload: BlobUpload | None = None

    async def take(self, request: Request) -> bytes:
        """Append the body but for its end, which is returned. When the body breaks off, all that came is appended."""
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
                    appending = asyncio.ensure_future(
                        asyncio.to_thread(self.append, memoryview(data)[:whole])
                    )
                    held, size, enough = [data[whole:]], size - whole, _PIECE
        except BaseException:
            if appending is not None:
                await appending
            await asyncio.to_thread(self.append, b"".join(held))
            raise
        if appending is not None:
            await appending
        return b"".join(held)

    def append(self, data: bytes | memoryview) -> BlobUpload:
        """Blocks. Raises what opening and appending do."""
        if self._upload is None:
            self._upload = self._begin()
        if data:
            self._upload.append(data)
        return self._upload

    def end(self, rest: bytes) -> int:
        """Append ``rest`` and close; how much the upload has now. Blocks."""
        try:
            return self.append(rest).offset
        finally:
            self.close()

    def close(self) -> None:
        """What was appended is kept. Idempotent. Blocks."""
        if self._upload is not None:
            self._upload.close()
