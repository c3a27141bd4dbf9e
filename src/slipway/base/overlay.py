"""Overlay mounts with any number of layers and any names.

``mount(2)`` takes all options in one page: at common path lengths that ends near 40 layers, and commas and colons in a
name need quoting. Newer kernels (6.7) take the layers one by one. Before that, and for names the options cannot
express, a directory is named through a descriptor, ``/proc/self/fd/N``, which is short and needs no working directory
of its own; so it may be done by any thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from slipway.base import linux

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LONGEST = 255  # of one option's value
_OLD_KERNEL = (errno.ENOSYS, errno.EINVAL, errno.ENODEV)


def mount_overlay(
    target: Path,
    lowers: Sequence[Path],
    upper: Path | None = None,
    work: Path | None = None,
    *,
    read_only: bool = False,
    volatile: bool = False,
    owner: int = 0,
) -> None:
    """Mount ``lowers`` (top first) at ``target``, below ``upper`` if there is one; device nodes do not work in it.

    Without an upper directory, two lower ones are the least. ``volatile`` never syncs: for what is thrown away if it
    is cut off. ``owner`` is the id that the overlay makes its own files with: when upper and work are id-mapped binds,
    it has to be an id that they map (the first of the range), because the machine's root is none there.
    """
    extra = ["volatile"] if volatile else []
    with contextlib.ExitStack() as stack, _acting_as(owner):
        names = [_name(path, stack) for path in lowers]
        above = [_name(path, stack) for path in (upper, work) if path is not None]
        try:
            _mount_step_by_step(target, names, above, extra, read_only)
            return
        except _TooOld:
            pass
        if len(linux.OVERLAY_OPTIONS) + sum(len(name) + 1 for name in (*names, *above)) > 3800:
            names = [_short(path, stack) for path in lowers]
        data = ",".join([linux.overlay_data(names, *above), *extra])
        flags = linux.MS_NODEV | (linux.MS_RDONLY if read_only else 0)
        linux.mount("overlay", target, "overlay", flags, data)


class _TooOld(Exception):
    """The kernel cannot take lower directories one by one."""


def _mount_step_by_step(
    target: Path, lowers: Sequence[str], above: Sequence[str], extra: Sequence[str], read_only: bool
) -> None:
    try:
        fd = linux.fsopen("overlay")
    except OSError as error:
        if error.errno in _OLD_KERNEL:
            raise _TooOld from error
        raise
    try:
        for option in linux.OVERLAY_OPTIONS.split(","):
            linux.fsconfig(fd, linux.FSCONFIG_SET_STRING, *option.split("=", 1))
        linux.fsconfig(fd, linux.FSCONFIG_SET_STRING, "source", "overlay")
        _set_lowers(fd, lowers)
        for key, name in zip(("upperdir", "workdir"), above, strict=False):
            linux.fsconfig(fd, linux.FSCONFIG_SET_STRING, key, name)
        for option in extra:
            linux.fsconfig(fd, linux.FSCONFIG_SET_FLAG, option)
        linux.fsconfig(fd, linux.FSCONFIG_CMD_CREATE)
        attributes = linux.MOUNT_ATTR_NODEV | (linux.MOUNT_ATTR_RDONLY if read_only else 0)
        mounted = linux.fsmount(fd, attributes)
    finally:
        os.close(fd)
    try:
        linux.move_mount(mounted, linux.AT_FDCWD, target)
    finally:
        os.close(mounted)


def _set_lowers(fd: int, lowers: Sequence[str]) -> None:
    for index, name in enumerate(lowers):
        try:
            linux.fsconfig(fd, linux.FSCONFIG_SET_STRING, "lowerdir+", name)
        except OSError as error:
            if index == 0 and error.errno == errno.EINVAL:
                raise _TooOld from error
            raise


@contextlib.contextmanager
def _acting_as(owner: int) -> Iterator[None]:
    """This thread's new files belong to ``owner``; the capabilities that changing the id would take are kept."""
    if not owner:
        yield
        return
    before = linux.prctl(linux.PR_GET_SECUREBITS)
    linux.prctl(linux.PR_SET_SECUREBITS, before | linux.SECBIT_NO_SETUID_FIXUP)
    linux.set_file_system_ids(owner, owner)
    try:
        yield
    finally:
        linux.set_file_system_ids(0, 0)
        linux.prctl(linux.PR_SET_SECUREBITS, before)


def _name(path: Path, stack: contextlib.ExitStack) -> str:
    """The path itself if every way to mount takes it as it is."""
    text = os.path.abspath(path)
    return _short(path, stack) if len(os.fsencode(text)) > _LONGEST or set(text) & set(",:\\") else text


def _short(path: Path, stack: contextlib.ExitStack) -> str:
    fd = os.open(path, _DIRECTORY)
    stack.callback(os.close, fd)
    return f"/proc/self/fd/{fd}"
