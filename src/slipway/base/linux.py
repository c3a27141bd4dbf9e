"""Kernel calls that Python's standard library lacks: mounts, namespaces, beneath-only opens, capabilities.

Thin: arguments as the man pages name them, ``OSError`` with the kernel's errno. The numbers of the newer calls are the
same on every architecture.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
from collections.abc import Sequence

_LIBC = ctypes.CDLL(None, use_errno=True)
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

SYS_OPEN_TREE, SYS_MOVE_MOUNT = 428, 429
SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 430, 431, 432
SYS_OPENAT2, SYS_MOUNT_SETATTR = 437, 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "s390x": 217, "ppc64le": 203, "riscv64": 41}

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x01, 0x02, 0x04
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x08, 0x10

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SLAVE = 0x1000, 0x2000, 0x4000, 0x40000, 0x80000
MS_SHARED = 0x100000
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_IDMAP = (
    1,
    2,
    4,
    8,
    0x100000,
)

FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
FSOPEN_CLOEXEC = FSMOUNT_CLOEXEC = 1
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

SYNC_FILE_RANGE_WRITE = 2

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_GET_SECUREBITS, PR_SET_SECUREBITS = 1, 24, 27, 28
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47
SECBIT_NO_SETUID_FIXUP = 4
PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _check(result: int, what: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what or None)
    return result


def _syscall(number: int, *arguments: object, what: str = "") -> int:
    return _check(_LIBC.syscall(ctypes.c_long(number), *arguments), what)


def _bytes(path: str | bytes | os.PathLike[str]) -> bytes:
    return os.fsencode(path)


def openat2(
    dirfd: int,
    path: str | bytes,
    flags: int,
    mode: int = 0,
    resolve: int = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
) -> int:
    """Open ``path`` under the rules of ``resolve``, by default never leaving ``dirfd``."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        try:
            return _syscall(
                SYS_OPENAT2,
                dirfd,
                _bytes(path),
                ctypes.byref(how),
                ctypes.sizeof(how),
                what=os.fsdecode(path),
            )
        except BlockingIOError:
            continue  # the tree was being renamed while ".." was resolved; the man page says to try again


def mount(source: str, target: str | os.PathLike[str], fstype: str, flags: int = 0, data: str = "") -> None:
    _check(
        _LIBC.mount(
            _bytes(source), _bytes(target), _bytes(fstype) if fstype else None, ctypes.c_ulong(flags),
            _bytes(data) if data else None,
        ),
        str(target),
    )  # fmt: skip


def umount2(target: str | os.PathLike[str], flags: int = 0) -> None:
    _check(_LIBC.umount2(_bytes(target), flags), str(target))


def open_tree(dirfd: int, path: str | os.PathLike[str], flags: int) -> int:
    return _syscall(SYS_OPEN_TREE, dirfd, _bytes(path), ctypes.c_uint(flags), what=str(path))


def move_mount(from_fd: int, to_fd: int, to_path: str | os.PathLike[str] = "") -> None:
    """Attach the detached mount ``from_fd`` at ``to_path``, or on what ``to_fd`` itself is."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if to_path else MOVE_MOUNT_T_EMPTY_PATH)
    _syscall(SYS_MOVE_MOUNT, from_fd, b"", to_fd, _bytes(to_path), ctypes.c_uint(flags), what=str(to_path))


def mount_setattr(
    fd: int, set_flags: int = 0, clear_flags: int = 0, userns_fd: int = 0, recursive: bool = False
) -> None:
    attributes = _MountAttr(set_flags, clear_flags, 0, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(SYS_MOUNT_SETATTR, fd, b"", ctypes.c_uint(flags), ctypes.byref(attributes), ctypes.c_size_t(32))


def fsopen(fstype: str) -> int:
    """Begin a mount whose options are given one by one, so that no page limits them all together."""
    return _syscall(SYS_FSOPEN, _bytes(fstype), ctypes.c_uint(FSOPEN_CLOEXEC), what=fstype)


def fsconfig(fd: int, command: int, key: str = "", value: str = "") -> None:
    """Raises ``OSError`` with the file system's own words, where it has any."""
    names = [_bytes(text) if text else None for text in (key, value)]
    try:
        _syscall(SYS_FSCONFIG, fd, ctypes.c_uint(command), *names, 0, what=f"{key} {value}".strip())
    except OSError as error:
        raise OSError(error.errno, _explained(fd) or error.strerror, error.filename) from error


def _explained(fd: int) -> str:
    """What the kernel noted about a failed mount: lines like ``e overlay: …``."""
    lines = []
    try:
        while line := os.read(fd, 4096):
            lines.append(line.decode(errors="replace").strip()[2:])
    except OSError:  # ENODATA: that was all
        pass
    return "; ".join(lines)


def fsmount(fd: int, attributes: int = 0) -> int:
    """The configured file system as a mount that is nowhere yet; see ``move_mount``."""
    flags = ctypes.c_uint(FSMOUNT_CLOEXEC), ctypes.c_uint(attributes)
    return _syscall(SYS_FSMOUNT, fd, *flags, what="fsmount")


def renameat2(
    old: str | bytes | os.PathLike[str], new: str | bytes | os.PathLike[str], flags: int = 0,
    *, old_dirfd: int = AT_FDCWD, new_dirfd: int = AT_FDCWD,
) -> None:  # fmt: skip
    """Rename with ``RENAME_NOREPLACE`` or ``RENAME_EXCHANGE``."""
    _check(
        _LIBC.renameat2(old_dirfd, _bytes(old), new_dirfd, _bytes(new), ctypes.c_uint(flags)),
        f"{os.fsdecode(old)} -> {os.fsdecode(new)}",
    )


def syncfs(fd: int) -> None:
    """Write out everything the file system of ``fd`` still has in memory."""
    _check(_LIBC.syncfs(fd), "syncfs")


def start_writeback(fd: int, offset: int, size: int) -> None:
    """Let the disk begin with these bytes of a file; nothing is waited for, and only ``fsync`` makes them durable."""
    arguments = ctypes.c_int64(offset), ctypes.c_int64(size), ctypes.c_uint(SYNC_FILE_RANGE_WRITE)
    _check(_LIBC.sync_file_range(fd, *arguments), "sync_file_range")


def return_memory_above(size: int) -> None:
    """Blocks of ``size`` bytes and more go back to the kernel when they are freed. glibc by itself begins to keep them,
    for each thread, once one of that size was freed. Other C libraries ignore it."""
    with contextlib.suppress(AttributeError):
        _LIBC.mallopt(ctypes.c_int(_M_MMAP_THRESHOLD), ctypes.c_int(size))


def return_free_memory() -> None:
    """What this process has freed goes back to the kernel, where the C library can do that. Takes milliseconds."""
    with contextlib.suppress(AttributeError):
        _LIBC.malloc_trim(ctypes.c_size_t(0))


def limit_arenas(count: int) -> None:
    """How many heaps glibc makes for threads, eight for each core by itself; each keeps what was freed in it."""
    with contextlib.suppress(AttributeError):
        _LIBC.mallopt(ctypes.c_int(_M_ARENA_MAX), ctypes.c_int(count))


def idmapped_bind(
    source: str | os.PathLike[str], target: str | os.PathLike[str], userns_fd: int, read_only: bool = False
) -> None:
    """Bind ``source`` at ``target`` so that id N on disk is the user namespace's id N.

    Files keep the container's own ids on disk while a worker works under a subordinate range.
    """
    fd = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
    try:
        flags = MOUNT_ATTR_IDMAP | (MOUNT_ATTR_RDONLY if read_only else 0)
        mount_setattr(fd, flags, userns_fd=userns_fd)
        move_mount(fd, AT_FDCWD, target)
    finally:
        os.close(fd)


OVERLAY_OPTIONS = "index=off,metacopy=off,redirect_dir=off,xino=off"
_PAGE = 4096


def overlay_data(lowers: Sequence[str], upper: str = "", work: str = "") -> str:
    """The data of an overlay mount; raises ``OSError`` (E2BIG) when it does not fit into a page.

    Every option that would leave upper-directory-only metadata is off: the upper directory is a layer as it stands.
    """
    data = f"{OVERLAY_OPTIONS},lowerdir={':'.join(lowers)}"
    if upper:
        data += f",upperdir={upper},workdir={work}"
    if len(data) >= _PAGE:
        raise OSError(errno.E2BIG, f"an overlay of {len(lowers)} layers does not fit into a mount's options")
    return data


def unshare(flags: int) -> None:
    _check(_LIBC.unshare(flags), "unshare")


def setns(fd: int, kind: int = 0) -> None:
    _check(_LIBC.setns(fd, kind), "setns")


def pivot_root(new_root: str | bytes, put_old: str | bytes) -> None:
    _syscall(SYS_PIVOT_ROOT[os.uname().machine], _bytes(new_root), _bytes(put_old), what="pivot_root")


def prctl(option: int, *arguments: int) -> int:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_LIBC.prctl(option, *padded), f"prctl {option}")


@functools.cache
def in_user_namespace() -> bool:
    """Whether ids are mapped here: no ``trusted.*`` attributes, no devices, no id-mapped mounts of the host's disks."""
    with open("/proc/self/uid_map") as stream:
        return stream.read().split() != ["0", "0", str(0xFFFFFFFF)]


def last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as stream:
        return int(stream.read())


def set_file_system_ids(uid: int, gid: int) -> None:
    """What this thread's new files belong to, and whose files it may use; Python has no call for it."""
    _LIBC.setfsgid(ctypes.c_uint(gid))
    _LIBC.setfsuid(ctypes.c_uint(uid))


def limit_capabilities(keep: Sequence[int]) -> None:
    """Drop everything but ``keep`` from the bounding set, and the inheritable and ambient sets wholly.

    The effective and permitted sets are cut by the next ``execve``, or by ``set_capabilities``.
    """
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(last_capability() + 1):
        if number not in keep:
            prctl(PR_CAPBSET_DROP, number)


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's three capability sets from bit masks."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(
        effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF,
        effective >> 32, permitted >> 32, inheritable >> 32,
    )  # fmt: skip
    _check(_LIBC.capset(ctypes.byref(header), ctypes.byref(data)), "capset")
