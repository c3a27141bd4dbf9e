"""What a RUN sees besides its layers: /proc, /sys, /dev and the resolver's files, as Docker shows them."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from slipway.base import linux
from slipway.build.worker.root import Root

_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_LINKS = {
    "ptmx": "pts/ptmx", "fd": "/proc/self/fd", "core": "/proc/kcore", "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
}  # fmt: skip
_MASKED = (
    "proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys", "proc/latency_stats",
    "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/scsi", "sys/firmware",
    "sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")
_QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_FILES = "files"
_POINT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS
_CLONE = linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC


def mount_system(root: Root, specification: dict[str, Any]) -> None:
    """Mount it all. An image whose /proc, /sys or /dev is no directory of its own is refused."""
    base = specification["uid_base"]
    _kernel(root.fd, "proc", "proc", _QUIET, specification["nested"])
    _kernel(root.fd, "sys", "sysfs", _QUIET | linux.MS_RDONLY, specification["nested"])
    if specification["cgroup2"]:
        with contextlib.suppress(OSError):
            _mount(root.fd, "sys/fs/cgroup", "cgroup2", _QUIET | linux.MS_RDONLY)
    _mount(root.fd, "dev", "tmpfs", linux.MS_NOSUID, f"mode=755,size=64k,uid={base},gid={base}")
    _devices(root.fd, base, specification["devices"])
    _files(root, specification["files"], base)
    if specification["insecure"]:
        return
    for path in _MASKED:
        _mask(root.fd, path)
    for path in _READ_ONLY:
        with contextlib.suppress(FileNotFoundError):
            _read_only(root.fd, path)


def _point(root: int, path: str) -> str:
    """A name for what is at ``path`` that nothing can redirect any more; symlinks on the way are an error."""
    return f"/proc/self/fd/{linux.openat2(root, path, _POINT, resolve=_STRICT)}"


def _mount(root: int, path: str, fstype: str, flags: int, data: str = "") -> None:
    linux.mount(fstype, _point(root, path), fstype, flags, data)


def _kernel(root: int, path: str, fstype: str, flags: int, nested: bool) -> None:
    """/proc or /sys of the step's own; inside a container that hides parts of its own, that one, hidden parts and all.

    The kernel allows no fresh one there. A step's processes have other numbers in their container's /proc, and those
    beside it are to be seen there, without their memory, environment and files: these belong to another user namespace.
    """
    try:
        _mount(root, path, fstype, flags)
    except PermissionError:
        if not nested:
            raise
        fd = linux.open_tree(linux.AT_FDCWD, f"/{path}", _CLONE | linux.AT_RECURSIVE)
        if flags & linux.MS_RDONLY:
            linux.mount_setattr(fd, linux.MOUNT_ATTR_RDONLY, recursive=True)
        linux.move_mount(fd, linux.openat2(root, path, _POINT, resolve=_STRICT))
        os.close(fd)


def _devices(root: int, base: int, granted: list[dict[str, Any]]) -> None:
    dev = linux.openat2(root, "dev", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_STRICT)
    for name, (major, minor) in _DEVICES.items():
        _device(dev, base, name, major, minor)
    for name, target in _LINKS.items():
        os.symlink(target, name, dir_fd=dev)
        os.chown(name, base, base, dir_fd=dev, follow_symlinks=False)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(name, 0o755, dir_fd=dev)
    terminal = f"newinstance,ptmxmode=0666,mode=0620,uid={base},gid={base + 5}"
    _mount(dev, "pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, terminal)
    _mount(dev, "shm", "tmpfs", _QUIET, f"mode=1777,size=64m,uid={base},gid={base}")
    _mount(dev, "mqueue", "mqueue", _QUIET)
    for name in ("pts", "mqueue"):
        os.chown(name, base, base, dir_fd=dev)
    for device in granted:
        _granted_device(dev, base, device)
    os.close(dev)


def _granted_device(dev: int, base: int, device: dict[str, Any]) -> None:
    """Nothing but what was made here is on the way to it."""
    *parents, name = device["path"].split("/")
    here = os.dup(dev)
    for part in parents:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=here)
        below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        os.close(here)
        here = below
    with contextlib.suppress(FileExistsError):  # every step has it
        _device(here, base, name, device["major"], device["minor"], device["path"])
    os.close(here)


def _device(directory: int, base: int, name: str, major: int, minor: int, path: str = "") -> None:
    try:
        os.mknod(name, 0o666 | stat.S_IFCHR, os.makedev(major, minor), dir_fd=directory)
        os.chmod(name, 0o666, dir_fd=directory)
        os.chown(name, base, base, dir_fd=directory)
    except PermissionError:  # a device controller above us allows to use it, not to make it
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666, dir_fd=directory))
        linux.mount(f"/dev/{path or name}", _point(directory, name), "", linux.MS_BIND)


def _files(root: Root, files: dict[str, str], base: int) -> None:
    """Files of ours over those in /etc, read-only. A symlink there is covered, not followed."""
    os.mkdir(_FILES)
    for name, content in files.items():
        path = f"{_FILES}/{name}"
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as handle:
            handle.write(content)
        os.chmod(path, 0o644)
        os.chown(path, base, base)
        _attach_read_only(path, root.find(f"etc/{name}", follow=False))


def _attach_read_only(source: str, point: int) -> None:
    fd = linux.open_tree(linux.AT_FDCWD, source, _CLONE)
    linux.mount_setattr(fd, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)
    linux.move_mount(fd, point)
    os.close(fd)


def _read_only(root: int, path: str) -> None:
    point = linux.openat2(root, path, _POINT, resolve=_STRICT)
    _attach_read_only(f"/proc/self/fd/{point}", point)


def _mask(root: int, path: str) -> None:
    try:
        point = linux.openat2(root, path, _POINT, resolve=_STRICT)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(os.fstat(point).st_mode):
        flags = _QUIET | linux.MS_RDONLY
        linux.mount("tmpfs", f"/proc/self/fd/{point}", "tmpfs", flags, "mode=555,nr_inodes=1")
    else:
        linux.mount("/dev/null", f"/proc/self/fd/{point}", "", linux.MS_BIND)
