"""The root of a RUN: layers below, system directories above, nothing of the host."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from slipway.base import linux

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_MASKED = (
    "proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys", "proc/latency_stats",
    "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/scsi", "sys/firmware",
    "sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")
_QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_BENEATH = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS


def mount_layers(request: dict[str, Any], options: dict[str, Any], user_ns: int) -> None:
    """Overlay the layers at ``root`` in the staging directory, id-mapped to the worker's range.

    Changes the working directory there, so that any number of layers has short names.
    """
    linux.mount("tmpfs", options["stage"], "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=16m")
    os.chdir(options["stage"])
    lowers = []
    for index, source in enumerate([*request["lowers"], options["stubs"]]):
        name = f"l{index}"
        os.mkdir(name)
        linux.idmapped_bind(source, name, user_ns, read_only=True)
        lowers.append(name)
    os.mkdir("up")
    os.mkdir("root")
    linux.idmapped_bind(request["active"], "up", user_ns)
    linux.mount("overlay", "root", "overlay", linux.MS_NODEV, linux.overlay_data(lowers, "up/fs", "up/work"))


def mount_system(request: dict[str, Any], options: dict[str, Any]) -> None:
    """/proc, /sys, /dev and the resolver's files, on mount points that were found without following a symlink."""
    root = os.open("root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    owner = options["uid_base"]
    linux.mount("proc", _point(root, "proc"), "proc", _QUIET)
    linux.mount("sysfs", _point(root, "sys"), "sysfs", _QUIET | linux.MS_RDONLY)
    linux.mount(
        "tmpfs", _point(root, "dev"), "tmpfs", linux.MS_NOSUID, f"mode=755,size=64m,uid={owner},gid={owner}"
    )
    _devices(root, owner)
    for file in ("resolv.conf", "hosts"):
        with contextlib.suppress(OSError):
            _bind_read_only(request[file], _found(root, f"etc/{file}"))
    for path in _MASKED:
        _mask(root, path)
    for path in _READ_ONLY:
        with contextlib.suppress(FileNotFoundError):
            point = _found(root, path)
            _bind_read_only(f"/proc/self/fd/{point}", point)
    os.close(root)


def _found(root: int, path: str) -> int:
    return linux.openat2(root, path, _OPEN, resolve=_BENEATH)


def _point(root: int, path: str) -> str:
    """A name for what is at ``path`` that nothing can redirect any more."""
    return f"/proc/self/fd/{_found(root, path)}"


def _devices(root: int, owner: int) -> None:
    dev = linux.openat2(root, "dev", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_BENEATH)
    for name in _DEVICES:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=dev))
        linux.mount(f"/dev/{name}", _point(dev, name), "", linux.MS_BIND)
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(name, 0o755, dir_fd=dev)
    data = f"newinstance,ptmxmode=0666,mode=0620,uid={owner},gid={owner + 5}"
    linux.mount("devpts", _point(dev, "pts"), "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, data)
    linux.mount("tmpfs", _point(dev, "shm"), "tmpfs", _QUIET, f"mode=1777,size=64m,uid={owner},gid={owner}")
    linux.mount("mqueue", _point(dev, "mqueue"), "mqueue", _QUIET)
    links = {
        "ptmx": "pts/ptmx",
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
    }
    for name, target in (links | {"stderr": "/proc/self/fd/2"}).items():
        os.symlink(target, name, dir_fd=dev)
    os.close(dev)


def _bind_read_only(source: str, point: int) -> None:
    """Show ``source`` read-only on the mount point that ``point`` is."""
    fd = linux.open_tree(linux.AT_FDCWD, source, linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC)
    try:
        linux.mount_setattr(fd, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV)
        linux.move_mount(fd, point)
    finally:
        os.close(fd)


def _mask(root: int, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        fd = _found(root, path)
        try:
            if os.path.isdir(f"/proc/self/fd/{fd}"):
                linux.mount("tmpfs", f"/proc/self/fd/{fd}", "tmpfs", _QUIET | linux.MS_RDONLY, "size=0k")
            else:
                linux.mount("/dev/null", f"/proc/self/fd/{fd}", "", linux.MS_BIND)
        finally:
            os.close(fd)


def enter_root() -> None:
    """Make the staged root the root of this mount namespace and let go of everything else."""
    os.chdir("root")
    linux.pivot_root(".", ".")
    linux.umount2(".", linux.MNT_DETACH)
    os.chdir("/")
