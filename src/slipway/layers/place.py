"""Putting entries into a layer's directory without ever leaving it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator

from slipway.base import linux
from slipway.content.writer import full_disk_named, write_all
from slipway.errors import Invalid, Unsupported
from slipway.layers.directories import Directories, Lower, is_whiteout, lstat
from slipway.layers.entry import Entry
from slipway.layers.sibling import LARGEST, Sibling

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
_BUFFER = 1024 * 1024
_KEPT_XATTRS = ("security.capability", "user.", "system.posix_acl_")
_TOLERATED = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)


class Placer:
    """Writes below one directory descriptor. Directories get their times at the end, when they are full."""

    def __init__(self, root: int, lower: Lower | None, sibling: Sibling | None = None) -> None:
        self._known_below = lower is not None
        self._directories = Directories(root, lower or (lambda path: None), self._metadata)
        self._sibling = sibling
        self._privileged = os.geteuid() == 0
        # Modes of directories that their owner may not write to, which somebody who is not root has to fill first.
        self._closed: dict[str, int] = {}

    def __enter__(self) -> Placer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._directories.close()

    def finish(self) -> None:
        """Set the directories' times, which filling them has changed."""
        for path, mtime in self._directories.times.items():
            os.utime(self._directories.find(path), (mtime, mtime))
        for path in sorted(
            self._closed.keys() & self._directories.times.keys(), reverse=True
        ):  # the inner ones first
            os.fchmod(self._directories.find(path), self._closed[path])

    def opaque(self, path: str) -> None:
        """Hide what lower layers have in this directory."""
        if not path and self._known_below:
            raise Unsupported("the layer hides all layers below it", hint="squash the image into one layer")
        self._directories.opaque(path)

    def whiteout(self, parent: str, name: str) -> None:
        """Hide ``name`` of the lower layers; what this layer has under the name stays."""
        directory = self._directories.open(parent)
        found = lstat(directory, name)
        path = _joined(self._directories.real(parent), name)
        self._directories.replaced(path)
        if found is not None:
            if stat.S_ISDIR(found.st_mode):
                self._directories.opaque(path)
        elif (
            not self._known_below or self._directories.below(path) is not None
        ):  # overlayfs would list one that hides nothing
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)

    def entry(self, entry: Entry, path: str, target: str) -> None:
        """Create or replace one entry. ``target`` is a symlink's text, or a hard link's checked path."""
        with full_disk_named():
            if not path:
                self._root(entry)
                return
            parent, _, name = path.rpartition("/")
            directory = self._directories.open(parent)
            path = _joined(self._directories.real(parent), name)
            self._directories.replaced(path)
            try:
                self._create(entry, directory, name, path, target)
            except FileExistsError:
                self._replace(entry, directory, name, path, target)

    def _root(self, entry: Entry) -> None:
        if entry.kind != "dir":
            raise Invalid(
                f"the layer has a {entry.kind} for its root directory", hint="it is hostile or broken"
            )
        self._metadata(self._directories.root, entry)
        self._directories.times[""] = entry.mtime

    def _replace(self, entry: Entry, directory: int, name: str, path: str, target: str) -> None:
        """Create ``entry`` where something is already."""
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            if entry.kind == "dir":
                self._directory(entry, path)
                return
            self._directories.remove(directory, name, path)
        else:
            os.unlink(name, dir_fd=directory)
        self._create(entry, directory, name, path, target)
        if entry.kind == "dir" and is_whiteout(found):
            self._directories.opaque(path)

    def _create(self, entry: Entry, directory: int, name: str, path: str, target: str) -> None:
        match entry.kind:
            case "file":
                self._file(entry, directory, name, path)
            case "dir":
                os.mkdir(name, 0o700, dir_fd=directory)
                self._directory(entry, path)
            case "symlink":
                if not target:
                    raise Invalid(f"the layer has a symlink without a target: {path[:200]!r}")
                os.symlink(target, name, dir_fd=directory)
                self._own(name, directory, entry)
            case "hardlink":
                self._hard_link(directory, name, path, target)
            case _:
                self._special(entry, directory, name, path)

    def _directory(self, entry: Entry, path: str) -> None:
        self._closed.pop(path, None)
        if not self._privileged and entry.mode & stat.S_IRWXU != stat.S_IRWXU:
            self._closed[path] = entry.mode
            entry = entry.owned(entry.mode | stat.S_IRWXU, entry.uid, entry.gid)
        self._metadata(self._directories.find(path), entry)
        self._directories.times[path] = entry.mtime

    def _file(self, entry: Entry, directory: int, name: str, path: str = "") -> None:
        chunks: Iterable[bytes] = _chunks(entry)
        if self._sibling is not None and path and 0 < entry.size <= LARGEST:
            if lstat(directory, name) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            chunks = list(chunks)
            if self._sibling.link(entry, path, chunks, directory, name):
                return
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
        try:
            for chunk in chunks:
                write_all(fd, chunk)
            self._metadata(fd, entry)
            os.utime(fd, (entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _hard_link(self, directory: int, name: str, path: str, target: str) -> None:
        parent, _, base = target.rpartition("/")
        found = source = None
        if base and target != path:
            try:
                source = self._directories.find(parent)
                found = lstat(source, base)
            except FileNotFoundError:
                source = None
        if found is None:
            below = self._directories.below(target)
            if below is not None and below.kind == "file" and below.open is not None and target != path:
                self._file(below, directory, name)
                return
        elif not stat.S_ISDIR(found.st_mode) and not is_whiteout(found):
            try:
                os.link(base, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
                return
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
                raise Invalid(f"the layer links too often to {target[:200]!r}") from error
        raise Invalid(
            f"the layer links {path[:200]!r} to {target[:200]!r}, which is no file in it or below it",
            hint="it is hostile or broken",
        )

    def _special(self, entry: Entry, directory: int, name: str, path: str) -> None:
        if entry.kind == "char" and entry.device == (0, 0):
            raise Invalid(f"the layer has a 0:0 device, which would hide files: {path[:200]!r}")
        if entry.kind != "fifo" and linux.in_user_namespace():
            return  # nobody may make devices there, nor use those that others made
        os.mknod(name, _SPECIAL[entry.kind] | 0o600, os.makedev(*entry.device), dir_fd=directory)
        self._own(name, directory, entry)
        os.chmod(name, entry.mode, dir_fd=directory)

    def _own(self, name: str, directory: int, entry: Entry) -> None:
        if self._privileged:
            os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)

    def _metadata(self, fd: int, entry: Entry) -> None:
        # Owner first: changing it clears the set-id bits and the capabilities.
        if self._privileged:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for name, value in entry.xattrs.items():
            if name.startswith(_KEPT_XATTRS) and not name.startswith("user.overlay."):
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    if error.errno not in _TOLERATED:
                        raise


def _joined(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


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
