"""The process that is a build's pid and user namespace: both end with it, and it ends with the worker."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from slipway.base import linux


def start(uid_base: int, uid_count: int, lock: int, *, in_place: bool) -> tuple[int, int]:
    """Start it, mapping its ids from 0 up to ``uid_base`` and up; returns its pid and
    a descriptor to keep: when the last copy of it is closed, the holder ends.

    The worker must have unshared a pid namespace, so that the holder is process 1 in it. ``lock`` is the descriptor
    that keeps the id range taken; the holder keeps it open, too. ``in_place``: with no user namespace.
    """
    unshared, tell_unshared = os.pipe()
    mapped, tell_mapped = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell_mapped)
        _become_holder(tell_unshared, mapped, lock, in_place)
    os.close(tell_unshared)
    os.close(mapped)
    if os.read(unshared, 1) != b"u":
        raise OSError("the worker could not make a user namespace")
    for file in () if in_place else ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{file}", "w") as handle:
            handle.write(f"0 {uid_base} {uid_count}\n")
    os.write(tell_mapped, b"m")
    if os.read(unshared, 1) != b"r":
        raise OSError("the worker could not enter its user namespace")
    os.close(unshared)
    return child, tell_mapped


def _become_holder(tell: int, life: int, lock: int, in_place: bool) -> NoReturn:
    try:
        if not in_place:
            linux.unshare(linux.CLONE_NEWUSER)
        os.write(tell, b"u")
        if os.read(life, 1) != b"m":
            os._exit(1)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the ids: changing them clears it
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans that come to process 1 need no waiting for
        os.write(tell, b"r")
        keep = sorted((life, lock))
        os.closerange(0, keep[0])
        os.closerange(keep[0] + 1, keep[1])
        os.closerange(keep[1] + 1, 0x7FFFFFFF)
        os.read(life, 1)
    finally:
        os._exit(1)
