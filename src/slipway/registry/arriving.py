"""A blob on its way from another registry, which any number of clients read while it comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import weakref
from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from slipway.content import BlobSink, ContentStore
from slipway.oci import Digest


@runtime_checkable
class _InFile(Protocol):
    """A sink whose bytes are in a file of this machine."""

    def fileno(self) -> int: ...


class Arriving:
    """Bytes become readable as they are written; the end of an answer only once all of them are verified.

    So a client never gets a whole answer that holds anything but what the digest names. The file lives as long as
    somebody refers to this object.
    """

    def __init__(self, digest: Digest, size: int) -> None:
        self.digest = digest
        self.size = size
        self._file = -1
        self._own_file = False
        self._there = 0
        self._verified = False
        self._error: BaseException | None = None
        self._news = asyncio.Event()

    async def fill(self, pieces: AsyncGenerator[bytes, None], store: ContentStore) -> None:
        """Write and verify what comes. Raises ``Invalid`` for other content, which is kept nowhere."""
        sink = await asyncio.to_thread(store.writer, self.digest.algorithm)
        try:
            self._keep_file_of(sink)
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    await asyncio.to_thread(self._write, sink, piece)
                    self._there += len(piece)
                    self._tell()
            await asyncio.to_thread(sink.commit, self.digest, self.size)
        finally:
            await asyncio.to_thread(sink.abort)
        self._verified = True
        self._tell()

    def fail(self, error: BaseException) -> None:
        """Nothing more comes: everybody who reads gets ``error``, unless all of it is here."""
        self._error = error
        self._tell()

    async def begun(self) -> None:
        """Wait for the first bytes. Raises what went wrong before them."""
        while not (self._there or self._verified):
            await self._more()

    async def until(self, position: int, end: int) -> int:
        """Up to where an answer that ends at ``end`` can be read from ``position`` on; more than ``position``.

        Raises what the fetch failed with.
        """
        while not self._verified:
            ready = min(self._there, end - 1)
            if ready > position:
                return ready
            await self._more()
        return end

    def fileno(self) -> int:
        """Where the bytes are, at their offsets. Of use as long as this object is."""
        return self._file

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _keep_file_of(self, sink: BlobSink) -> None:
        """The sink's own file where it has one; for a bucket, one beside it that has no name."""
        if isinstance(sink, _InFile):
            self._file = os.dup(sink.fileno())
        else:
            with tempfile.TemporaryFile() as handle:
                self._file = os.dup(handle.fileno())
            self._own_file = True
        weakref.finalize(self, os.close, self._file)

    def _write(self, sink: BlobSink, piece: bytes) -> None:
        sink.write(piece)
        if self._own_file:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._file, view) :]
