"""The merged view of a chain, read without mounting it."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from slipway.base import linux
from slipway.errors import Conflict, Invalid, NotFound
from slipway.layers import Entry
from slipway.layers.diff import entry_at, is_opaque

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_XDEV
_MAX_LINKS = 40
_KEPT_OPEN = 128
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

_Found = tuple[Entry, int]
"""An entry, and the number of the layer it comes from (0 is the top)."""


class _Layers:
    """The descriptors of the layers. Entries hold on to them, not to their view, so that both are freed at once."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self.roots: list[int] = []
        self.count = len(layers)
        for path in layers:
            self.roots.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        for fd in self.roots:
            os.close(fd)
        self.roots.clear()

    def root(self, index: int) -> int:
        if not self.roots:
            raise Conflict("this view of an image was closed")
        return self.roots[index]

    def open(self, index: int, path: str) -> int:
        return linux.openat2(self.root(index), path, _FILE, resolve=_RESOLVE)


class RootView:
    """What a container would see as its root. Paths are relative; symlinks resolve inside the root.

    Answers are remembered, so a view is for one operation (and one thread) on committed layers, which never change.
    Holds a descriptor a layer and some for directories; use it as a context manager, or let it be collected. Entries
    keep their view alive; once it is closed, they cannot be opened any more.
    """

    def __init__(self, layers: Sequence[Path]) -> None:
        """``layers``: their directories, top first."""
        self._layers = _Layers(layers)
        self._open: OrderedDict[tuple[int, str], int] = OrderedDict()
        self._found: dict[str, _Found | None] = {}
        self._merged: dict[str, tuple[int, ...]] = {}
        self._listed: set[str] = set()

    def __enter__(self) -> RootView:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._layers.close()
        self._close_directories()

    def _close_directories(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def __del__(self) -> None:
        # An entry may still be read; the layers go with the last of them. Nothing is there if the constructor failed.
        if hasattr(self, "_open"):
            self._close_directories()

    def lstat(self, path: str) -> Entry | None:
        """The entry at ``path`` with no symlink followed, not even in its parents."""
        found = self._find(path)
        return found[0] if found else None

    def resolve(self, path: str, follow: bool = True) -> str | None:
        """``path`` with symlinks resolved in the root (the last one only if ``follow``); ``None`` if nothing is there.

        Raises ``Invalid`` for a loop.
        """
        return resolved(self.lstat, path, follow)

    def iterdir(self, path: str) -> list[Entry]:
        """The entries of a directory, sorted; none if it is no directory. Sockets are left out."""
        prefix = f"{path}/" if path else ""
        seen: set[str] = set()
        for index in self._directories(path):
            fd = self._directory(index, path)
            for name in os.listdir(fd):
                if name not in seen:
                    seen.add(name)
                    if prefix + name not in self._found:
                        self._found[prefix + name] = self._in_layer(index, fd, name, prefix + name)
        self._listed.add(path)
        found = (self._found.get(prefix + name) for name in sorted(seen))
        return [item[0] for item in found if item is not None]

    def walk(self, path: str) -> Iterator[Entry]:
        """Everything below a directory, parents first."""
        todo = [iter(self.iterdir(path))]
        while todo:
            entry = next(todo[-1], None)
            if entry is None:
                todo.pop()
                continue
            yield entry
            if entry.kind == "dir":
                todo.append(iter(self.iterdir(entry.path)))

    def open(self, path: str) -> BinaryIO:
        """A regular file. Raises ``NotFound``; the caller resolves symlinks first."""
        found = self._find(path)
        if found is None or found[0].kind != "file":
            raise NotFound(f"/{path} is not a file in the image")
        return os.fdopen(self._layers.open(found[1], path), "rb")

    def read(self, path: str, limit: int = 4 * 1024 * 1024) -> bytes | None:
        """A small file, symlinks followed; ``None`` if there is none. At most ``limit`` bytes."""
        real = self.resolve(path)
        entry = self.lstat(real) if real is not None else None
        if real is None or entry is None or entry.kind != "file":
            return None
        with self.open(real) as handle:
            return handle.read(limit)

    def _find(self, path: str) -> _Found | None:
        if path not in self._found:
            for parent in _unknown(path, self._merged):
                self._directories(parent)
            self._found[path] = self._look(path)
        return self._found[path]

    def _look(self, path: str) -> _Found | None:
        if not path:
            return self._root()
        parent, _, name = path.rpartition("/")
        if name in ("", ".", "..") or path.startswith("/") or "\0" in name or parent in self._listed:
            return None
        for index in self._directories(parent):
            try:
                return self._in_layer(index, self._directory(index, parent), name, path)
            except OSError as error:
                if error.errno not in _NOTHING_THERE:
                    raise
        return None

    def _in_layer(self, index: int, fd: int, name: str, path: str) -> _Found | None:
        """What a layer says about a name; ``None`` if that there is nothing. Raises ``OSError`` if it says nothing."""
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if _is_whiteout(status):
            return None
        entry = entry_at(fd, name, path)
        if entry is None:
            return None
        if entry.kind == "file":
            layers = self._layers
            entry = replace(entry, open=lambda: layers.open(index, path))
        return entry, index

    def _root(self) -> _Found:
        """The merged root looks as the top layer's does."""
        if not self._layers.count:
            return Entry("", "dir", 0o755), 0
        status = os.fstat(self._layers.root(0))
        mode = stat.S_IMODE(status.st_mode)
        return Entry("", "dir", mode, status.st_uid, status.st_gid, status.st_mtime), 0

    def _directories(self, path: str) -> tuple[int, ...]:
        """The layers, top first, whose directory ``path`` is part of the merged one."""
        if path not in self._merged:
            self._merged[path] = self._merge(path) if path else tuple(range(self._layers.count))
        return self._merged[path]

    def _merge(self, path: str) -> tuple[int, ...]:
        found = self._find(path)
        if found is None or found[0].kind != "dir":
            return ()
        parent, _, name = path.rpartition("/")
        layers = []
        for index in self._directories(parent):
            if index < found[1]:
                continue
            try:
                status = os.stat(name, dir_fd=self._directory(index, parent), follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                break  # a whiteout or a file hides what is further down
            layers.append(index)
            if is_opaque(self._directory(index, path)):
                break
        return tuple(layers)

    def _directory(self, index: int, path: str) -> int:
        """A descriptor that is good until the next call, unless ``path`` is the root."""
        root = self._layers.root(index)
        if not path:
            return root
        key = (index, path)
        fd = self._open.get(key)
        if fd is None:
            fd = self._open[key] = linux.openat2(root, path, _DIRECTORY, resolve=_RESOLVE)
            if len(self._open) > _KEPT_OPEN:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(key)
        return fd


def _unknown(path: str, known: Container[str]) -> list[str]:
    """The directories on the way to ``path`` that are not known yet, from the top: so nothing recurses by depth."""
    found: list[str] = []
    parent = path.rpartition("/")[0]
    while parent and parent not in known:
        found.append(parent)
        parent = parent.rpartition("/")[0]
    return found[::-1]


def resolved(lstat: Callable[[str], Entry | None], path: str, follow: bool = True) -> str | None:
    """``path`` with symlinks resolved in a tree that is known by ``lstat``; see ``RootView.resolve``."""
    done: list[str] = []
    todo = _parts(path)
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
            continue
        entry = lstat("/".join([*done, part]))
        if entry is None:
            return None
        if entry.kind == "symlink" and (todo or follow):
            links += 1
            if links > _MAX_LINKS:
                raise Invalid(f"too many symlinks in {path[:200]!r}")
            if entry.target.startswith("/"):
                done = []
            todo += _parts(entry.target)
            continue
        if todo and entry.kind != "dir":
            return None
        done.append(part)
    return "/".join(done)


def _parts(path: str) -> list[str]:
    """The components, last first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
