"""Network namespaces that belong to a build's user namespace, with nothing but a loopback device."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from slipway.base import linux

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


def create(user_ns: int) -> int:
    """A descriptor of a fresh network namespace, which lives for as long as somebody holds it; in ours without
    ``user_ns`` (-1)."""
    ready, tell = os.pipe()
    leave, tell_leave = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(tell_leave)
            if user_ns >= 0:
                linux.setns(user_ns)
            linux.unshare(linux.CLONE_NEWNET)
            _loopback_up()
            os.write(tell, b"r")
            os.read(leave, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(leave)
    try:
        if os.read(ready, 1) != b"r":
            raise OSError("the worker could not make a network namespace")
        return os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(tell_leave)
        os.waitpid(child, 0)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
