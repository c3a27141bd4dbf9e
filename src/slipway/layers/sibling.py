"""Files that an earlier, similar tree has already: linked instead of written again.

A layer is often a small change of one before it. Where the tree of that one has a file with the very same bytes and
metadata at the same path, a hard link to it takes a fraction of the time and no space. Trees of layers never change,
so sharing an inode is safe; nothing is believed: every byte is compared.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from slipway.base import linux
from slipway.layers.entry import Entry

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_XDEV
LARGEST = 1024 * 1024


class Sibling:
    """The tree below the open directory ``root``, which the caller closes after this."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: str | None = None
        self._directory = -1

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
        self._path, self._directory = None, -1

    def link(self, entry: Entry, path: str, chunks: Iterable[bytes], directory: int, name: str) -> bool:
        """Link the file at ``path`` to ``name`` in ``directory`` if it is what ``entry`` and ``chunks`` say.

        There must be nothing of that name.
        """
        parent = self._open(path.rpartition("/")[0])
        if parent < 0:
            return False
        try:
            fd = os.open(name, _FILE, dir_fd=parent)
        except OSError:
            return False
        try:
            if not _same(fd, entry, chunks):
                return False
            os.link(name, name, src_dir_fd=parent, dst_dir_fd=directory, follow_symlinks=False)
        except OSError:  # too many links, or the tree is being removed
            return False
        finally:
            os.close(fd)
        return True

    def _open(self, path: str) -> int:
        """The descriptor of a directory, -1 if there is none; the last one is kept."""
        if path != self._path:
            self.close()
            try:
                self._directory = linux.openat2(self._root, path or ".", _DIRECTORY, resolve=_RESOLVE)
            except OSError:
                self._directory = -1
            self._path = path
        return self._directory


def _same(fd: int, entry: Entry, chunks: Iterable[bytes]) -> bool:
    found = os.fstat(fd)
    if (
        found.st_size != entry.size
        or found.st_mode != stat.S_IFREG | entry.mode
        or found.st_uid != entry.uid
        or found.st_gid != entry.gid
        or abs(found.st_mtime - entry.mtime) > 1e-6
        or entry.xattrs
        or os.listxattr(fd)
    ):
        return False
    return all(os.read(fd, len(chunk)) == chunk for chunk in chunks)
