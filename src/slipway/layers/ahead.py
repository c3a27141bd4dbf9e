"""Reading ahead: decompression and hashing in a thread of their own."""

from __future__ import annotations

import hashlib
import io
import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

from slipway.oci import Digest

_BLOCK = 1024 * 1024
_AHEAD = 3


class Counted(io.RawIOBase):
    """A stream that knows how many bytes were read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.size += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Ahead:
    """Reads and hashes ``stream``, a few blocks ahead of whoever reads from this.

    ``check`` is called with the bytes read so far and raises when they are too many. An error of the stream is raised
    by ``read``, in order. Leaving the block ends the thread; it may wait for one read of the stream.
    """

    def __init__(self, stream: BinaryIO, check: Callable[[int], None] | None = None) -> None:
        self._stream = stream
        self._check = check
        self._hasher = hashlib.sha256()
        self._size = 0
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._block = b""
        self._at = 0
        self._ended = False
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="layer reader", daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop = True
        while not self._ended:
            self._ended = not isinstance(self._queue.get(), bytes)
        self._thread.join()

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        if self._at == len(self._block) and not self._next():
            return b""
        piece = self._block[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def drain(self) -> tuple[Digest, int]:
        """Read to the end. The digest and the number of all bytes there were."""
        while self._next():
            pass
        return Digest.finish(self._hasher), self._size

    def _next(self) -> bool:
        if self._ended:
            return False
        block = self._queue.get()
        if isinstance(block, bytes):
            self._block, self._at = block, 0
            return True
        self._ended = True
        if block is not None:
            raise block
        return False

    def _run(self) -> None:
        try:
            while not self._stop and (block := self._stream.read(_BLOCK)):
                self._size += len(block)
                if self._check is not None:
                    self._check(self._size)
                self._hasher.update(block)
                self._queue.put(block)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)
