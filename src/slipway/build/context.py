"""The build context: a directory of source code, read without ever leaving it.

Every step down is an ``open`` of one name with O_NOFOLLOW relative to an open directory, and symlinks are resolved by
the kernel beneath the root (openat2), so nothing that changes meanwhile can lead outside. What ``.dockerignore``
excludes does not exist. Files belong to 0:0, as the Dockerfile reference demands.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from slipway.base import linux
from slipway.errors import Invalid, NotFound
from slipway.layers import Entry

Excludes = Callable[[str, bool], bool]
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def nothing(path: str, is_directory: bool) -> bool:
    """Excludes nothing."""
    return False


class ContextFile:
    """Opens one file of a context, if it is still the one that was listed.

    ``facts`` tell its content from any other: device, inode, size, times of the last change in nanoseconds.
    """

    __slots__ = ("_context", "_path", "facts")

    def __init__(self, context: Context, path: str, status: os.stat_result) -> None:
        self._context = context
        self._path = path
        self.facts = file_facts(status)

    def __call__(self) -> int:
        fd = self._context.open_file(self._path)
        if file_facts(os.fstat(fd)) != self.facts:
            os.close(fd)
            raise Invalid(f"{self._path!r} changed while it was read", hint="run the same again")
        return fd


def file_facts(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class _Parents:
    """The directory that each thread opened a file in last: its next file is likely in there, too."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: dict[int, tuple[str, int]] = {}

    def open(self, path: str) -> int:
        """A descriptor that is good until this thread's next call."""
        thread = threading.get_ident()
        known, fd = self._open.get(thread, ("", -1))
        if known != path:
            if fd >= 0:
                del self._open[thread]
                os.close(fd)
            fd = self._context.open_directory(path)
            self._open[thread] = (path, fd)
        return fd

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1][1])


class Context:
    """One open context. ``excludes(path, is_directory)`` says what is not there.

    Raises ``NotFound`` when the directory is missing.
    """

    def __init__(self, root: Path, excludes: Excludes = nothing) -> None:
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(
                f"the build context {root} cannot be read: {error.strerror}",
                hint="name a directory that exists on the server's machine",
            ) from error
        self._excludes = excludes
        self._parents = _Parents(self)

    @property
    def fd(self) -> int:
        """The open directory."""
        return self._root

    def close(self) -> None:
        self._parents.close()
        os.close(self._root)

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def with_excludes(self, excludes: Excludes) -> None:
        """Set what is not there, once the ignore file was read through this context."""
        self._excludes = excludes

    def stat_of(self, path: str) -> os.stat_result:
        """The kernel's facts of ``path``, for caches of content hashes."""
        fd = self._open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def lstat(self, path: str) -> Entry | None:
        try:
            status = self.stat_of(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if path and self._hidden(path, stat.S_ISDIR(status.st_mode)):
            return None
        return self._entry(path, status)

    def resolve(self, path: str, follow: bool = True) -> str | None:
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        try:
            fd = linux.openat2(
                self._root, path or ".", flags, resolve=linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Invalid(f"{path!r} cannot be read from the context: {error.strerror}") from error
        try:
            here, root = os.readlink(f"/proc/self/fd/{fd}"), os.readlink(f"/proc/self/fd/{self._root}")
        finally:
            os.close(fd)
        return os.path.relpath(here, root) if here != root else ""

    def iterdir(self, path: str) -> list[Entry]:
        fd = self._open(path, _OPEN_DIRECTORY)
        try:
            entries = []
            prefix = f"{path}/" if path else ""
            with os.scandir(fd) as found:
                for item in found:
                    name = prefix + item.name
                    if self._excludes is nothing or not self._hidden(
                        name, item.is_dir(follow_symlinks=False)
                    ):
                        with contextlib.suppress(
                            FileNotFoundError
                        ):  # an editor's file that has just gone again
                            entries.append(self._entry(name, item.stat(follow_symlinks=False), fd, item.name))
            return entries
        finally:
            os.close(fd)

    def open(self, path: str) -> BinaryIO:
        # Looked at first: to open a device that an archive brought may already do something to the host.
        if not stat.S_ISREG(self.stat_of(path).st_mode):
            raise Invalid(f"{path!r} in the context is not a regular file")
        return os.fdopen(self._open(path, _OPEN_FILE), "rb")

    def open_directory(self, path: str) -> int:
        """A descriptor of the directory, no symlink followed; the caller closes it."""
        return self._open(path, _OPEN_DIRECTORY)

    def open_file(self, path: str) -> int:
        """A descriptor of what is at ``path``, no symlink followed; the caller closes it."""
        parent, _, name = path.rpartition("/")
        return os.open(name, _OPEN_FILE, dir_fd=self._parents.open(parent) if parent else self._root)

    def _open(self, path: str, flags: int) -> int:
        return linux.openat2(
            self._root, path or ".", flags, resolve=linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS
        )

    def _hidden(self, path: str, is_directory: bool) -> bool:
        return self._excludes(path, is_directory)

    def _entry(self, path: str, status: os.stat_result, parent: int = -1, name: str = "") -> Entry:
        mode = status.st_mode
        mtime = status.st_mtime_ns / 1_000_000_000
        if stat.S_ISDIR(mode):
            return Entry(path, "dir", stat.S_IMODE(mode), 0, 0, mtime)
        if stat.S_ISLNK(mode):
            return Entry(path, "symlink", 0o777, 0, 0, mtime, target=self._readlink(path, parent, name))
        if stat.S_ISREG(mode):
            return Entry(
                path,
                "file",
                stat.S_IMODE(mode),
                0,
                0,
                mtime,
                status.st_size,
                open=ContextFile(self, path, status),
            )
        if stat.S_ISFIFO(mode):
            return Entry(path, "fifo", stat.S_IMODE(mode), 0, 0, mtime)
        raise Invalid(
            f"{path!r} in the context is a socket or a device",
            hint="remove it or add it to .dockerignore",
        )

    def _readlink(self, path: str, parent: int, name: str) -> str:
        if parent >= 0:
            return os.readlink(name, dir_fd=parent)
        fd = self._open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)
