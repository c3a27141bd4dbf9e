"""What an overlay's upper directory says was changed, as layer entries."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from slipway.base import linux
from slipway.errors import Invalid
from slipway.layers.entry import OPAQUE, WHITEOUT, Entry

_INTERNAL = ("trusted.", "user.overlay.", "security.selinux", "security.ima", "security.evm")
_CAPABILITY = "security.capability"
_DEPTH = 250  # every level keeps a descriptor open; what applies a layer allows a little more
_PATH = 3800
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_XDEV
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def diff_upper(dirfd: int) -> Iterator[Entry]:
    """The entries of the directory behind ``dirfd``, depth first and sorted.

    What comes out is of no use if it changes meanwhile, but it is of this directory and of nothing outside. A 0:0
    character device is a whiteout, an opaque directory an opaque marker. Sockets are left out.
    Raises ``Invalid`` for what no layer can hold, and ``OSError`` for what has gone meanwhile.
    """
    return _Walk(dirfd).directory("", dirfd)


def entry_at(parent: int, name: str, path: str) -> Entry | None:
    """The entry ``name`` in the directory ``parent`` as a layer would have it; ``None`` for a socket."""
    return _entry(parent, name, path, os.stat(name, dir_fd=parent, follow_symlinks=False))


@dataclass(slots=True)
class _Walk:
    root: int
    links: dict[tuple[int, int], str] = field(default_factory=dict)

    def directory(self, path: str, fd: int) -> Iterator[Entry]:
        prefix = f"{path}/" if path else ""
        if path.count("/") >= _DEPTH or len(path) > _PATH:
            raise Invalid(
                f"a path is too deep for a layer: {path[:200]!r}…",
                hint=f"at most {_DEPTH} components and {_PATH} characters",
            )
        for name in sorted(os.listdir(fd)):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                yield Entry(f"{prefix}{WHITEOUT}{name}", "file", 0o644)  # overlayfs gives it any time
                continue
            if name.startswith(WHITEOUT):
                raise Invalid(
                    f"the file {prefix + name!r} cannot be part of an image",
                    hint="names that begin with .wh. mark deletions in layers: remove it in the same step",
                )
            entry = self._linked(_entry(fd, name, prefix + name, status), status)
            if entry is None:
                continue
            yield entry
            if entry.kind == "dir":
                child = os.open(name, _DIRECTORY, dir_fd=fd)
                try:
                    if is_opaque(child):
                        yield Entry(f"{entry.path}/{OPAQUE}", "file", 0o644, mtime=status.st_mtime)
                    yield from self.directory(entry.path, child)
                finally:
                    os.close(child)

    def _linked(self, entry: Entry | None, status: os.stat_result) -> Entry | None:
        """The entry, or a hard link to where the same file was seen first."""
        if entry is None or entry.kind != "file":
            return entry
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            if key in self.links:
                return Entry(
                    entry.path,
                    "hardlink",
                    entry.mode,
                    entry.uid,
                    entry.gid,
                    entry.mtime,
                    target=self.links[key],
                )
            self.links[key] = entry.path
        # Opened by path from the root when it is written: its directory's descriptor is closed by then, and a step may
        # have put a link in its place.
        path, root = entry.path, self.root
        return Entry(
            path, "file", entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, xattrs=entry.xattrs,
            open=lambda: linux.openat2(root, path, _FILE, resolve=_RESOLVE),
        )  # fmt: skip


def is_opaque(fd: int) -> bool:
    # The one that our overlays are mounted with: a step may set the other as it likes.
    kind = "user" if linux.in_user_namespace() else "trusted"
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", f"{kind}.overlay.opaque") == b"y"
    except OSError:
        return False


def _entry(parent: int, name: str, path: str, status: os.stat_result) -> Entry | None:
    mode, permissions = status.st_mode, stat.S_IMODE(status.st_mode)
    uid, gid, mtime = status.st_uid, status.st_gid, status.st_mtime
    if stat.S_ISLNK(mode):
        return Entry(path, "symlink", 0o777, uid, gid, mtime, target=os.readlink(name, dir_fd=parent))
    if stat.S_ISSOCK(mode):
        return None
    xattrs = _xattrs(f"/proc/self/fd/{parent}/{name}")
    if stat.S_ISDIR(mode):
        return Entry(path, "dir", permissions, uid, gid, mtime, xattrs=xattrs)
    if stat.S_ISREG(mode):
        return Entry(path, "file", permissions, uid, gid, mtime, status.st_size, xattrs=xattrs)
    device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    if stat.S_ISFIFO(mode):
        return Entry(path, "fifo", permissions, uid, gid, mtime)
    return Entry(path, "char" if stat.S_ISCHR(mode) else "block", permissions, uid, gid, mtime, device=device)


def _xattrs(path: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    found = {}
    for name in names:
        if not name.startswith(_INTERNAL):
            value = os.getxattr(path, name, follow_symlinks=False)
            found[name] = _portable(value) if name == _CAPABILITY else value
    return found


def _portable(value: bytes) -> bytes:
    """A file capability without the user namespace it was made in (version 3 to version 2)."""
    if len(value) == 24 and struct.unpack("<I", value[:4])[0] & 0xFF000000 == 0x03000000:
        flags = struct.unpack("<I", value[:4])[0] & 0x00FFFFFF
        return struct.pack("<I", 0x02000000 | flags) + value[4:20]
    return value
