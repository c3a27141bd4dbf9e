"""Connections that may be silent for long, and still notice when the other side is gone without a word."""

from __future__ import annotations

import socket
from typing import Any

_KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


def keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """For an ``addrinfo``: a socket that fails within half a minute of the other side's disappearance."""
    family, kind, protocol, _name, _where = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return made
