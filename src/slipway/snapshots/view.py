"""The merged view of a chain, read without mounting it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from slipway.base import linux
from slipway.errors import Invalid, NotFound
from slipway.layers import Entry
from slipway.layers.diff import entry_at, is_opaque

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_XDEV
_MAX_LINKS = 40


class RootView:
    """What a container would see as its root. Paths are relative; symlinks resolve inside the root.

    Holds a descriptor a layer; use it as a context manager, or let it be collected. Answers are remembered, so a view
    is for one operation on committed layers, which never change.
    """

    def __init__(self, layers: Sequence[Path]) -> None:
        """``layers``: their directories, top first."""
        self._roots = [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in layers]
        self._known: dict[str, tuple[Entry, int] | None] = {}

    def __enter__(self) -> RootView:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        for fd in self._roots:
            os.close(fd)
        self._roots = []

    def __del__(self) -> None:
        self.close()

    def lstat(self, path: str) -> Entry | None:
        """The entry at ``path`` with no symlink followed, not even in its parents."""
        found = self._find(path)
        return found[0] if found else None

    def resolve(self, path: str, follow: bool = True) -> str | None:
        """``path`` with symlinks resolved in the root (the last one only if ``follow``); ``None`` if nothing is there.

        Raises ``Invalid`` for a loop.
        """
        done: list[str] = []
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done[:-1]
                continue
            entry = self.lstat("/".join([*done, part]))
            if entry is None:
                return None
            if entry.kind == "symlink" and (todo or follow):
                links += 1
                if links > _MAX_LINKS:
                    raise Invalid(f"too many symlinks in {path[:200]!r}")
                if entry.target.startswith("/"):
                    done = []
                todo += [item for item in reversed(entry.target.split("/")) if item not in ("", ".")]
                continue
            if todo and entry.kind != "dir":
                return None
            done.append(part)
        return "/".join(done)

    def iterdir(self, path: str) -> list[Entry]:
        """The entries of a directory, sorted."""
        prefix = f"{path}/" if path else ""
        names: set[str] = set()
        for index in self._directories(path):
            fd = self._open_directory(index, path)
            if fd is not None:
                names.update(os.listdir(fd))
                os.close(fd)
        found = (self.lstat(prefix + name) for name in sorted(names))
        return [entry for entry in found if entry is not None]

    def walk(self, path: str) -> Iterator[Entry]:
        """Everything below a directory, parents first."""
        for entry in self.iterdir(path):
            yield entry
            if entry.kind == "dir":
                yield from self.walk(entry.path)

    def open(self, path: str) -> BinaryIO:
        """A regular file. Raises ``NotFound``; the caller resolves symlinks first."""
        found = self._find(path)
        if found is None or found[0].kind != "file":
            raise NotFound(f"/{path} is not a file in the image")
        return os.fdopen(linux.openat2(self._roots[found[1]], path, _FILE, resolve=_RESOLVE), "rb")

    def read(self, path: str, limit: int = 4 * 1024 * 1024) -> bytes | None:
        """A small file, symlinks followed; ``None`` if there is none."""
        real = self.resolve(path)
        entry = self.lstat(real) if real is not None else None
        if real is None or entry is None or entry.kind != "file":
            return None
        with self.open(real) as handle:
            return handle.read(limit)

    def _find(self, path: str) -> tuple[Entry, int] | None:
        """The entry and the layer it comes from."""
        if path in self._known:
            return self._known[path]
        found = self._look(path)
        self._known[path] = found
        return found

    def _look(self, path: str) -> tuple[Entry, int] | None:
        if not path:
            return Entry("", "dir", 0o755), 0
        parent, _, name = path.rpartition("/")
        for index in self._directories(parent):
            fd = self._open_directory(index, parent)
            if fd is None:
                continue
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    return None
                entry = entry_at(fd, name, path)
                return (self._readable(entry, index), index) if entry else None
            except (FileNotFoundError, NotADirectoryError):
                continue
            finally:
                os.close(fd)
        return None

    def _directories(self, path: str) -> list[int]:
        """The layers, top first, whose directory ``path`` is part of the merged one."""
        if not path:
            return list(range(len(self._roots)))
        found = self._find(path)
        if found is None or found[0].kind != "dir":
            return []
        layers = []
        name = path.rpartition("/")[2]
        for index in self._directories(path.rpartition("/")[0]):
            if index < found[1]:
                continue
            parent = self._open_directory(index, path.rpartition("/")[0])
            if parent is None:
                continue
            try:
                mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue
            finally:
                os.close(parent)
            if not stat.S_ISDIR(mode):
                break  # a whiteout or a file hides what is further down
            layers.append(index)
            fd = self._open_directory(index, path)
            if fd is not None:
                hides = is_opaque(fd)
                os.close(fd)
                if hides:
                    break
        return layers

    def _open_directory(self, index: int, path: str) -> int | None:
        try:
            return linux.openat2(self._roots[index], path or ".", _DIRECTORY, resolve=_RESOLVE)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def _readable(self, entry: Entry, index: int) -> Entry:
        if entry.kind != "file":
            return entry
        path, root = entry.path, self._roots[index]
        return Entry(
            path, "file", entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, xattrs=entry.xattrs,
            open=lambda: linux.openat2(root, path, _FILE, resolve=_RESOLVE),
        )  # fmt: skip
