"""Resumable uploads: bytes that arrive in pieces, over requests and restarts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from slipway.base import linux
from slipway.content.direct import DirectWriter
from slipway.content.writer import Buffer, check, full_disk_named, write_all
from slipway.errors import Conflict, NotFound
from slipway.oci import Digest
from slipway.oci.digest import Hasher

_BUFFER = 1024 * 1024
_WRITEBACK = 8 * 1024 * 1024
_KEPT = 1000
_BESIDE = 256 * 1024  # from here on a thread is worth its while,
_SMALL = 4 * 1024 * 1024  # once an upload has turned out to be a large one


class RunningHashes:
    """The hashes of uploads between two requests, by id and length, so that no byte is read again to be hashed.

    A few hundred bytes each, the latest thousand; what is missing is computed from the file.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Hasher] = OrderedDict()

    def keep(self, upload: str, size: int, hasher: Hasher) -> None:
        self._kept[upload, size] = hasher
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def take(self, upload: str, size: int) -> Hasher | None:
        return self._kept.pop((upload, size), None)


class Upload:
    """One upload. Whoever writes first has it alone until ``close``: others get ``Conflict``, over processes, too.

    The running hash lives in memory, with ``hashes`` between two requests; after a restart what is there is read once
    more.
    """

    def __init__(
        self, path: Path, publish: Callable[[Path, Digest], None], create: bool, hashes: RunningHashes
    ) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        try:
            self._fd = os.open(path, flags, 0o600)
        except FileNotFoundError as error:
            raise NotFound(f"there is no upload {path.name!r}") from error
        self._path = path
        self._publish = publish
        self._mine = False
        self._hashes = hashes
        self._direct = DirectWriter(path)
        self._thread: ThreadPoolExecutor | None = None  # which hashes what this one writes
        self.offset = os.fstat(self._fd).st_size
        self._begun = self.offset
        self._hasher: Hasher | None = None if self.offset else hashlib.sha256()

    @property
    def id(self) -> str:
        return self._path.name

    def append(self, buffer: Buffer) -> None:
        """Raises ``Exhausted`` when the disk is full; what earlier calls wrote stays."""
        self._take()
        hashing = self._hash(self._hasher, buffer) if self._hasher is not None else None
        try:
            written = self._direct.append(buffer, self.offset)
            if written < len(buffer):
                write_all(self._fd, memoryview(buffer)[written:])
        except BaseException:
            os.ftruncate(self._fd, self.offset)
            self._hasher = None  # it is ahead of the file: if need be, that is read again
            raise
        finally:
            if hashing is not None:
                hashing.result()
        self.offset += len(buffer)
        if self.offset - self._begun >= _WRITEBACK:
            with contextlib.suppress(OSError):  # a hint: what the disk refuses, fsync says
                linux.start_writeback(self._fd, self._begun, self.offset - self._begun)
            self._begun = self.offset

    def _hash(self, hasher: Hasher, buffer: Buffer) -> Future[None] | None:
        if len(buffer) < _BESIDE or self.offset < _SMALL:
            hasher.update(buffer)
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "hash")
        return self._thread.submit(hasher.update, buffer)

    def _take(self) -> None:
        """Keep others out, and see that nobody was here since this upload was opened."""
        if self._mine:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here, there = os.fstat(self._fd), self._path.stat()
        except BlockingIOError as error:
            raise Conflict(
                f"the upload {self.id!r} is being written to", hint="one request at a time"
            ) from error
        except FileNotFoundError as error:
            raise NotFound(f"there is no upload {self.id!r} any more") from error
        if here.st_ino != there.st_ino or here.st_size != self.offset:
            raise Conflict(f"the upload {self.id!r} has moved on meanwhile", hint="ask for its offset")
        self._mine = True
        if self._hasher is None:
            self._hasher = self._hashes.take(self.id, self.offset)

    def commit(self, expected: Digest, size: int | None = None) -> tuple[Digest, int]:
        """Verify, make durable, publish as a blob. On a mismatch (``Invalid``) the upload stays."""
        self._take()
        digest = self._digest(expected.algorithm)
        check(digest, self.offset, expected, size)
        with full_disk_named():
            os.fsync(self._fd)
        self._publish(self._path, digest)
        self._hasher = None
        self.close()
        return digest, self.offset

    def _digest(self, algorithm: str) -> Digest:
        if algorithm == "sha256" and self._hasher is not None:
            return Digest.finish(self._hasher)
        hasher = hashlib.new(algorithm)
        position = 0
        while chunk := os.pread(self._fd, _BUFFER, position):
            hasher.update(chunk)
            position += len(chunk)
        return Digest.finish(hasher, algorithm)

    def close(self) -> None:
        if self._mine and self._hasher is not None and self._fd >= 0:
            self._hashes.keep(self.id, self.offset, self._hasher)
            self._hasher = None
        self._direct.close()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        self._hasher = None
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def age(path: Path) -> float:
    """Seconds since something was last written."""
    return max(0.0, time.time() - path.stat().st_mtime)
