"""One blob being written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from slipway.base import linux
from slipway.errors import Exhausted, Invalid
from slipway.oci import Digest

_WRITEBACK = 8 * 1024 * 1024
Buffer = bytes | bytearray | memoryview


class BlobWriter:
    """Hashes and writes; the blob exists once ``commit`` returns. Leaving the block without it removes everything.

    Without ``durable`` nothing waits for the disk: for a store that ends with its process anyhow.
    """

    def __init__(
        self, path: Path, publish: Callable[[Path, Digest], None], algorithm: str = "sha256", durable: bool = True
    ) -> None:  # fmt: skip
        self._durable = durable
        self._path = path
        self._publish = publish
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._algorithm = algorithm
        self._hasher = hashlib.new(algorithm)
        self._size = 0
        self._begun = 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.abort()

    def fileno(self) -> int:
        """The file being written, to read; bytes go in through ``write``, or they are not hashed."""
        return self._fd

    @property
    def size(self) -> int:
        return self._size

    def write(self, buffer: Buffer) -> int:
        """Raises ``Exhausted`` when the disk is full."""
        self._hasher.update(buffer)
        write_all(self._fd, buffer)
        self._size += len(buffer)
        if self._durable and self._size - self._begun >= _WRITEBACK:
            self._write_back()
        return len(buffer)

    def _write_back(self) -> None:
        """The disk writes while the next bytes are made, so that ``commit`` waits for the last few only."""
        with contextlib.suppress(OSError):  # a hint: what the disk refuses, fsync says
            linux.start_writeback(self._fd, self._begun, self._size - self._begun)
        self._begun = self._size

    def commit(self, expected: Digest | None = None, size: int | None = None) -> tuple[Digest, int]:
        """Verify, make durable and publish. Raises ``Invalid`` on a mismatch; nothing is stored then."""
        digest = Digest(self._algorithm, self._hasher.hexdigest())
        check(digest, self._size, expected, size)
        if self._durable:
            with full_disk_named():
                os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._publish(self._path, digest)
        return digest, self._size

    def abort(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def check(digest: Digest, size: int, expected: Digest | None, expected_size: int | None) -> None:
    if expected_size is not None and size != expected_size:
        raise Invalid(f"the content has {size} bytes, not the {expected_size} that were stated")
    if expected is not None and digest != expected:
        raise Invalid(f"the content's digest is {digest}, not {expected}", hint="it was damaged on the way")


def write_all(fd: int, buffer: Buffer) -> None:
    view = memoryview(buffer)
    with full_disk_named():
        while view:
            view = view[os.write(fd, view) :]


@contextlib.contextmanager
def full_disk_named() -> Iterator[None]:
    """Turns the kernel's "no space" into ``Exhausted``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Exhausted(
                "the disk of the content store is full", hint="free space, then try again"
            ) from error
        raise
