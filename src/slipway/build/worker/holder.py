"""The process that keeps a build's namespaces alive."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct

from slipway.base import linux

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_NAMESPACES = (
    linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET
    | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP
)  # fmt: skip
_HOSTNAME = "slipway-build"


def start_holder(uid_base: int, uid_count: int) -> int:
    """Start it; returns its pid, as this process's /proc numbers it."""
    unshared, tell_unshared = os.pipe()
    mapped, tell_mapped = os.pipe()
    ready, tell_ready = os.pipe()
    child = os.fork()
    if child == 0:
        _become_holder(tell_unshared, mapped, tell_ready)
    for fd in (tell_unshared, mapped, tell_ready):
        os.close(fd)
    if os.read(unshared, 1) != b"u":
        raise OSError("the worker could not make its namespaces")
    line = f"0 {uid_base} {uid_count}\n"
    for file in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{file}", "w") as handle:
            handle.write(line)
    os.write(tell_mapped, b"m")
    if os.read(ready, 1) != b"r":
        raise OSError("the worker could not enter its namespaces")
    for fd in (unshared, tell_mapped, ready):
        os.close(fd)
    return child


def _become_holder(tell_unshared: int, mapped: int, tell_ready: int) -> None:
    """Never returns: becomes root of a fresh user namespace and waits to be killed."""
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        linux.unshare(_NAMESPACES)
        os.write(tell_unshared, b"u")
        if os.read(mapped, 1) != b"m":
            os._exit(1)
        os.setresgid(0, 0, 0)
        os.setgroups([])
        os.setresuid(0, 0, 0)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)  # changing ids has cleared it
        socket.sethostname(_HOSTNAME)
        _loopback_up()
        os.write(tell_ready, b"r")
        os.closerange(0, 1024)
        while True:
            signal.pause()
    finally:
        os._exit(1)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
