"""Directories of a layer being unpacked: opened beneath its root only, made where the archive implies them."""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable

from slipway.base import linux
from slipway.errors import Invalid
from slipway.layers.entry import Entry

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_XDEV
_KEPT_OPEN = 64
_MAX_LINKS = 40

Lower = Callable[[str], Entry | None]
Metadata = Callable[[int, Entry], None]


class Directories:
    """Descriptors by path. A descriptor is good until the next call: only the last ones used are kept open."""

    def __init__(self, root: int, lower: Lower, metadata: Metadata) -> None:
        self.root = root
        self.times: dict[str, float] = {}
        self._lower = lower
        self._metadata = metadata
        self._open: OrderedDict[str, int] = OrderedDict()
        self._real: dict[str, str] = {}
        self._opaque: set[str] = set()

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def open(self, path: str) -> int:
        """The directory ``path``; made if it is not there. Raises ``Invalid`` if that leads through anything else."""
        return self._opened(path, 0)

    def find(self, path: str) -> int:
        """The directory ``path``. Raises ``FileNotFoundError`` and, if it leads through anything else, ``Invalid``."""
        path = self._real.get(path, path)
        return self._known(path) if path in self._open or not path else self._keep(path, self._beneath(path))

    def real(self, path: str) -> str:
        """Where an opened directory really is, once symlinks of the layers below are followed."""
        return self._real.get(path, path)

    def below(self, path: str) -> Entry | None:
        """What the layers below have at ``path``, unless this layer hides it."""
        if self._opaque:
            parts = path.split("/")[:-1]
            if "" in self._opaque or any("/".join(parts[: i + 1]) in self._opaque for i in range(len(parts))):
                return None
        return self._lower(path)

    def opaque(self, path: str) -> None:
        """Hide what the layers below have in the directory ``path``."""
        # In a user namespace overlays are mounted with ``userxattr``.
        kind = "user" if linux.in_user_namespace() else "trusted"
        os.setxattr(self.open(path), f"{kind}.overlay.opaque", b"y")
        self._opaque.add(self.real(path))

    def replaced(self, path: str) -> None:
        """The archive has an entry of its own at ``path``: symlinks of the layers below no longer count there."""
        if path in self._real:
            self._real.clear()

    def remove(self, directory: int, name: str, path: str) -> None:
        """Remove the tree ``name``, which is at ``path``."""
        for known in [item for item in self._open if item == path or item.startswith(path + "/")]:
            os.close(self._open.pop(known))
        self._remove(directory, name, path)

    def _opened(self, path: str, links: int) -> int:
        path = self._real.get(path, path)
        if path in self._open or not path:
            return self._known(path)
        try:
            return self._keep(path, self._beneath(path))
        except FileNotFoundError:
            return self._imply(path, links)

    def _known(self, path: str) -> int:
        if not path:
            return self.root
        self._open.move_to_end(path)
        return self._open[path]

    def _keep(self, path: str, fd: int) -> int:
        self._open[path] = fd
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _beneath(self, path: str) -> int:
        try:
            return linux.openat2(self.root, path, _DIRECTORY, resolve=_RESOLVE)
        except OSError as error:
            if error.errno == errno.ENOTDIR and self._hidden(path):
                raise FileNotFoundError(path) from error
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
                raise Invalid(
                    f"the layer writes through {path[:200]!r}, which is not a directory in it",
                    hint="it is hostile or broken",
                ) from error
            raise

    def _hidden(self, path: str) -> bool:
        """Whether the path ends or goes on at a whiteout of this layer."""
        while path:
            parent, _, name = path.rpartition("/")
            try:
                fd = linux.openat2(self.root, parent or ".", _DIRECTORY, resolve=_RESOLVE)
            except OSError:
                path = parent
                continue
            try:
                return is_whiteout(lstat(fd, name))
            finally:
                os.close(fd)
        return False

    def _imply(self, path: str, links: int) -> int:
        parent, _, name = path.rpartition("/")
        directory = self._opened(parent, links)
        real = self._real.get(parent, parent)
        if real != parent:
            return self._follow(path, f"{real}/{name}" if real else name, links)
        below = self.below(path)
        hidden = is_whiteout(lstat(directory, name))
        if hidden:
            os.unlink(name, dir_fd=directory)
        elif below is not None and below.kind == "symlink":
            return self._follow(path, _joined(parent, below.target), links)
        os.mkdir(name, 0o700, dir_fd=directory)
        fd = self._keep(path, os.open(name, _DIRECTORY, dir_fd=directory))
        if hidden:
            self.opaque(path)
        if below is not None and below.kind == "dir" and not hidden:
            self._metadata(fd, below)
            self.times[path] = below.mtime
        else:
            self._metadata(fd, Entry(path, "dir", 0o755))
        return fd

    def _follow(self, path: str, real: str, links: int) -> int:
        if links >= _MAX_LINKS:
            raise Invalid(f"the layer writes through too many symlinks: {path[:200]!r}")
        fd = self._opened(real, links + 1)
        self._real[path] = self._real.get(real, real)
        return fd

    def _remove(self, directory: int, name: str, path: str) -> None:
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            for child in os.listdir(fd):
                if stat.S_ISDIR(os.stat(child, dir_fd=fd, follow_symlinks=False).st_mode):
                    self._remove(fd, child, f"{path}/{child}")
                else:
                    os.unlink(child, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=directory)
        self.times.pop(path, None)
        self._opaque.discard(path)


def lstat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_whiteout(status: os.stat_result | None) -> bool:
    return status is not None and stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _joined(directory: str, target: str) -> str:
    """Where a symlink in ``directory`` leads, inside the tree whatever it says."""
    parts = [] if target.startswith("/") else [part for part in directory.split("/") if part]
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
