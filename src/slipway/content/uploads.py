"""Resumable uploads: bytes that arrive in pieces, over requests and restarts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from slipway.content.writer import Buffer, check, full_disk_named, write_all
from slipway.errors import Conflict, NotFound
from slipway.oci import Digest
from slipway.oci.digest import Hasher

_BUFFER = 1024 * 1024


class Upload:
    """One upload. Whoever writes first has it alone until ``close``: others get ``Conflict``, over processes, too.

    The running hash lives in memory: whoever opens the upload anew (after a restart) reads what is there once more.
    """

    def __init__(self, path: Path, publish: Callable[[Path, Digest], None], create: bool) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        try:
            self._fd = os.open(path, flags, 0o600)
        except FileNotFoundError as error:
            raise NotFound(f"there is no upload {path.name!r}") from error
        self._path = path
        self._publish = publish
        self._mine = False
        self.offset = os.fstat(self._fd).st_size
        self._hasher: Hasher | None = hashlib.sha256() if self.offset == 0 else None

    @property
    def id(self) -> str:
        return self._path.name

    def append(self, buffer: Buffer) -> None:
        """Raises ``Exhausted`` when the disk is full; what earlier calls wrote stays."""
        self._take()
        try:
            write_all(self._fd, buffer)
        except BaseException:
            os.ftruncate(self._fd, self.offset)
            raise
        if self._hasher is not None:
            self._hasher.update(buffer)
        self.offset += len(buffer)

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

    def commit(self, expected: Digest, size: int | None = None) -> tuple[Digest, int]:
        """Verify, make durable, publish as a blob. On a mismatch (``Invalid``) the upload stays."""
        self._take()
        digest = self._digest(expected.algorithm)
        check(digest, self.offset, expected, size)
        with full_disk_named():
            os.fsync(self._fd)
        self._publish(self._path, digest)
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
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def age(path: Path) -> float:
    """Seconds since something was last written."""
    return max(0.0, time.time() - path.stat().st_mtime)
