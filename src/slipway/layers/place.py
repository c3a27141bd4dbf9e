"""Putting entries into a directory tree without ever leaving it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator

from slipway.base import linux
from slipway.content.writer import full_disk_named, write_all
from slipway.errors import Invalid
from slipway.layers.entry import Entry

_OPAQUE = "trusted.overlay.opaque"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_XDEV
_OPEN_DIRECTORIES = 64
_BUFFER = 1024 * 1024
_KEPT_XATTRS = ("security.capability", "user.", "system.posix_acl_")


class Placer:
    """Writes below one directory descriptor. Directories in use are kept open; their times are set at the end."""

    def __init__(self, root: int, lower: Callable[[str], Entry | None]) -> None:
        self._root = root
        self._lower = lower
        self._open: OrderedDict[str, int] = OrderedDict()
        self._times: dict[str, float] = {}
        self._privileged = os.geteuid() == 0

    def __enter__(self) -> Placer:
        return self

    def __exit__(self, *_exception: object) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def finish(self) -> None:
        """Set the directories' times, which filling them has changed."""
        for path in sorted(self._times, reverse=True):
            fd = self._directory(path)
            os.utime(fd, (self._times[path], self._times[path]))

    def opaque(self, path: str) -> None:
        """Hide what lower layers have in this directory."""
        self._mark(self._directory(path))

    def whiteout(self, parent: str, name: str) -> None:
        """Hide ``name`` of the lower layers; what this layer has under the name stays."""
        directory = self._directory(parent)
        found = _lstat(directory, name)
        if found is None:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)
        elif stat.S_ISDIR(found.st_mode):
            self._mark(self._directory(f"{parent}/{name}" if parent else name))

    def entry(self, entry: Entry, path: str, target: str) -> None:
        """Create or replace one entry. ``target`` is a symlink's text, or a hard link's checked path."""
        if not path:
            self._metadata(self._root, entry, "")
            self._times[""] = entry.mtime
            return
        parent, _, name = path.rpartition("/")
        directory = self._directory(parent)
        hidden = self._make_room(directory, name, path, keep_directory=entry.kind == "dir")
        with full_disk_named():
            self._create(entry, directory, name, path, target)
        if hidden and entry.kind == "dir":
            self._mark(self._directory(path))

    def _create(self, entry: Entry, directory: int, name: str, path: str, target: str) -> None:
        match entry.kind:
            case "dir":
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=directory)
                self._metadata(self._directory(path), entry, path)
                self._times[path] = entry.mtime
            case "file":
                self._file(entry, directory, name, _chunks(entry))
            case "hardlink":
                self._hard_link(entry, directory, name, target)
            case "symlink":
                if not target:
                    raise Invalid(f"the layer has a symlink without a target: {path!r}")
                os.symlink(target, name, dir_fd=directory)
                self._own(name, directory, entry)
            case _:
                self._special(entry, directory, name, path)

    def _file(self, entry: Entry, directory: int, name: str, chunks: Iterator[bytes]) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
        try:
            for chunk in chunks:
                write_all(fd, chunk)
            self._metadata(fd, entry, entry.path)
            os.utime(fd, (entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _hard_link(self, entry: Entry, directory: int, name: str, target: str) -> None:
        parent, _, base = target.rpartition("/")
        try:
            source = self._directory(parent, create=False)
            found = _lstat(source, base) if base else None
        except FileNotFoundError:
            found = None
        if found is not None and not stat.S_ISDIR(found.st_mode):
            os.link(base, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
            return
        below = self._lower(target)
        if found is not None or below is None or below.kind != "file":
            raise Invalid(f"the layer links {entry.path[:200]!r} to {target[:200]!r}, which is no file in it")
        self._file(below, directory, name, _chunks(below))

    def _special(self, entry: Entry, directory: int, name: str, path: str) -> None:
        kinds = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
        if entry.kind == "char" and entry.device == (0, 0):
            raise Invalid(f"the layer has a 0:0 device, which would hide files: {path!r}")
        os.mknod(name, kinds[entry.kind] | 0o600, os.makedev(*entry.device), dir_fd=directory)
        self._own(name, directory, entry)
        os.chmod(name, entry.mode, dir_fd=directory)
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)

    def _own(self, name: str, directory: int, entry: Entry) -> None:
        if self._privileged:
            os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)

    def _metadata(self, fd: int, entry: Entry, path: str) -> None:
        # Owner first: changing it clears the set-id bits and the capabilities.
        if self._privileged:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for name, value in entry.xattrs.items():
            if name.startswith(_KEPT_XATTRS) and not name.startswith("user.overlay."):
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL):
                        raise

    def _make_room(self, directory: int, name: str, path: str, keep_directory: bool) -> bool:
        """Remove what is at ``name``; whether it was a whiteout of this layer."""
        found = _lstat(directory, name)
        if found is None or (keep_directory and stat.S_ISDIR(found.st_mode)):
            return False
        if stat.S_ISDIR(found.st_mode):
            self._forget(path)
            _remove_tree(directory, name)
        else:
            os.unlink(name, dir_fd=directory)
        return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0

    def _mark(self, fd: int) -> None:
        os.setxattr(fd, _OPAQUE, b"y")

    def _forget(self, path: str) -> None:
        for known in [item for item in self._open if item == path or item.startswith(path + "/")]:
            os.close(self._open.pop(known))
        for known in [item for item in self._times if item == path or item.startswith(path + "/")]:
            del self._times[known]

    def _directory(self, path: str, *, create: bool = True) -> int:
        """An open descriptor of the directory ``path``, made if the archive only implied it."""
        if not path:
            return self._root
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        try:
            fd = linux.openat2(self._root, path, _DIRECTORY, resolve=_RESOLVE)
        except FileNotFoundError:
            if not create:
                raise
            fd = self._imply(path)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
                raise Invalid(
                    f"the layer writes through {path[:200]!r}, which is not a directory in it",
                    hint="it is hostile or broken",
                ) from error
            raise
        self._open[path] = fd
        if len(self._open) > _OPEN_DIRECTORIES:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _imply(self, path: str) -> int:
        parent, _, name = path.rpartition("/")
        directory = self._directory(parent)
        os.mkdir(name, 0o755, dir_fd=directory)
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
        below = self._lower(path)
        if below is not None and below.kind == "dir":
            self._metadata(fd, below, path)
            self._times[path] = below.mtime
        return fd


def _chunks(entry: Entry) -> Iterator[bytes]:
    if entry.chunks is not None:
        yield from entry.chunks()
    elif entry.open is not None:
        fd = entry.open()
        try:
            while chunk := os.read(fd, _BUFFER):
                yield chunk
        finally:
            os.close(fd)


def _lstat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _remove_tree(directory: int, name: str) -> None:
    fd = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        for child in os.listdir(fd):
            if stat.S_ISDIR(os.stat(child, dir_fd=fd, follow_symlinks=False).st_mode):
                _remove_tree(fd, child)
            else:
                os.unlink(child, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=directory)
