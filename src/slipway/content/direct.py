"""Writing past the page cache.

What is pushed by the gigabyte would drive out of memory what others are reading, and making room for it page by page
takes several times as long as the disk does. So only the beginning of an upload, which is all of most layers, goes
through the page cache; the rest goes straight to the disk.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from slipway.content.writer import Buffer, full_disk_named

_BEGIN = 32 * 1024 * 1024
_BLOCK = 4096
_SCRATCH = 1024 * 1024


class DirectWriter:
    """Appends whole blocks to a file that somebody else has open as well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._possible = True
        self._scratch: mmap.mmap | None = None

    def append(self, buffer: Buffer, offset: int) -> int:
        """Write as much of ``buffer`` at ``offset`` as can be written in this way; how much that was.

        Nothing at the beginning of a file, below a mebibyte, at an offset that is no multiple of a block, and on file
        systems that cannot.
        """
        if not self._possible or offset < _BEGIN or offset % _BLOCK or len(buffer) < _SCRATCH:
            return 0
        view = memoryview(buffer)
        done = 0
        with full_disk_named():
            try:
                if self._fd < 0:
                    self._fd = os.open(self._path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
                    self._scratch = mmap.mmap(-1, _SCRATCH)  # the kernel wants memory that begins at a page
                scratch = self._scratch
                while scratch is not None and len(view) - done >= _BLOCK:
                    count = min(_SCRATCH, (len(view) - done) & ~(_BLOCK - 1))
                    scratch[:count] = view[done : done + count]
                    with memoryview(scratch) as whole, whole[:count] as piece:
                        written = os.pwrite(self._fd, piece, offset + done)
                    done += written
                    if written != count:
                        break
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._possible = False
        return done

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._scratch = None
