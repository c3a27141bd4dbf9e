"""The few changes to devices that come often enough to be asked of the kernel itself: rtnetlink(7), in two dozen lines.

Everything blocks, for as long as the kernel has its lock on all devices. Raises ``OSError``.
"""

from __future__ import annotations

import os
import socket
import struct

# <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_link.h>
_DELETE, _SET, _ERROR, _REQUEST_AND_ANSWER = 17, 19, 2, 0x01 | 0x04
_MASTER, _PORT, _PORT_ISOLATED, _NESTED = 10, 12, 33, 0x8000
_UP = 1
_HEADER, _LINK, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BxHiII"), struct.Struct("=HH")


def join(device: str, bridge: str) -> None:
    """Onto the bridge and up, isolated from the other ports before a packet can pass."""
    index = socket.if_nametoindex(device)
    master = _attribute(_MASTER, struct.pack("=I", socket.if_nametoindex(bridge)))
    isolated = _attribute(_PORT | _NESTED, _attribute(_PORT_ISOLATED, b"\x01"))
    _ask(_SET, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + master)
    _ask(_SET, _LINK.pack(socket.AF_BRIDGE, 0, index, 0, 0) + isolated)
    _ask(_SET, _LINK.pack(socket.AF_UNSPEC, 0, index, _UP, _UP))


def delete(device: str) -> None:
    """With a device of a pair goes the other."""
    _ask(_DELETE, _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(device), 0, 0))


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def _ask(kind: int, body: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_AND_ANSWER, 1, 0) + body)
        answer = kernel.recv(4096)
    (said,) = struct.unpack_from("=H", answer, 4)
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    if said != _ERROR or code:
        raise OSError(-code, os.strerror(-code))
