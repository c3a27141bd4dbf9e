"""Who listens on a TCP port, for an error that helps."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Listener:
    """One line of ``/proc/net/tcp``: an address that is listened on, and the socket's inode."""

    address: str
    port: int
    inode: int


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def parse_listeners(text: str) -> Iterator[Listener]:
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == _LISTENING:
            raw, _, port = words[1].partition(":")
            yield Listener(_address(raw), int(port, 16), int(words[9]))


def _address(raw: str) -> str:
    """Hexadecimal words in the machine's order."""
    data = b"".join(bytes.fromhex(raw[index : index + 8])[::-1] for index in range(0, len(raw), 8))
    return str(ipaddress.ip_address(data))


def is_free(listen: str) -> bool:
    """Whether ``ADDRESS:PORT`` could be listened on now. A name nobody knows is left to HAProxy to complain about."""
    host, port = split(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except (OSError, OverflowError):
            return False
    return True


def holders(listen: str) -> list[Holder]:
    """The processes whose listening keeps ``listen`` from us; none if they cannot be seen."""
    host, port = split(listen)
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for found in parse_listeners(Path(f"/proc/thread-self/net/{table}").read_text()):
                if found.port == port and _overlap(found.address, host):
                    inodes.add(f"socket:[{found.inode}]")
    return [holder for holder in _processes() if inodes and _holds(holder.pid, inodes)]


def split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    return ("0.0.0.0" if host in ("", "*") else host), int(port)


def _overlap(listened: str, wanted: str) -> bool:
    everything = ("0.0.0.0", "::")
    return listened in (wanted, *everything) or wanted in everything


def _processes() -> Iterator[Holder]:
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield Holder(int(name), Path(f"/proc/{name}/comm").read_text().strip())


def _holds(pid: int, inodes: set[str]) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                    return True
    return False
