"""What is asked of a sandbox."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from slipway.snapshots import Active

Network = Literal["none", "default", "host"]
Output = Callable[[str, bytes], None]
"""Called with ``stdout`` or ``stderr`` and a piece of output. While it runs nothing more is read."""


class NetworkAttacher(Protocol):
    """Gives a sandbox's network namespace a way out, for as long as the build runs.

    ``attach`` is called at most once, before the first step that needs a network; ``detach`` after it, when all
    processes are gone already but the namespace at ``netns`` still exists. A namespace that was never detached
    (the server was killed) has ceased to exist together with its devices.
    """

    async def attach(self, netns: Path, build_id: str) -> str:
        """Connect; returns the text of the steps' /etc/resolv.conf."""
        ...

    async def detach(self, netns: Path, build_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one build may use: CPUs, bytes of memory, processes, seconds, bytes on disk. 0 is no limit."""

    cpus: float = 0
    memory: int = 0
    pids: int = 0
    seconds: float = 0
    disk: int = 0

    def to_json(self) -> dict[str, float]:
        return {
            "cpus": self.cpus, "memory": self.memory, "pids": self.pids, "seconds": self.seconds, "disk": self.disk,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the server's at ``target`` in the root.

    ``mapped``: the ids on disk are the container's own, as in a layer.
    """

    source: Path
    target: str
    read_only: bool = True
    mapped: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "bind", "source": str(self.source), "target": self.target, "read_only": self.read_only,
            "mapped": self.mapped,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layers:
    """What is at ``source`` in a tree of layers, top first; with ``read_write``, writes are thrown away."""

    lowers: Sequence[Path]
    source: str
    target: str
    read_write: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "layers", "lowers": [str(path) for path in self.lowers], "source": self.source,
            "target": self.target, "read_write": self.read_write,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """``size`` in bytes; 0 is half of the machine's memory, within the build's limit."""

    target: str
    size: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"kind": "tmpfs", "target": self.target, "size": self.size}


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A read-only file that is in memory only; at most a megabyte or so. The owner's ids are the container's own."""

    target: str
    content: bytes = field(repr=False)
    mode: int = 0o400
    uid: int = 0
    gid: int = 0

    def to_json(self) -> dict[str, Any]:
        content = base64.b64encode(self.content).decode()
        return {
            "kind": "file", "target": self.target, "content": content, "mode": self.mode, "uid": self.uid,
            "gid": self.gid,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Device:
    """A character device at ``path`` below /dev, which everybody in the step may use."""

    path: str
    major: int
    minor: int

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path.removeprefix("/dev/"), "major": self.major, "minor": self.minor}


HOSTNAME = "slipway-build"
StepMount = Bind | Layers | Tmpfs | SmallFile


@dataclass(frozen=True, slots=True)
class RunStep:
    """One process: over ``lowers`` (top first) with the writable ``active`` snapshot.

    ``uid``, ``gid`` and ``groups`` are the container's own; ``hosts`` are further (name, address) pairs.
    ``mounts`` are attached in order, over everything else. ``insecure``: with every capability of the build's own user
    namespace, without the system call filter and with nothing of /proc hidden; it is still no root on the host.
    """

    lowers: Sequence[Path]
    active: Active
    argv: Sequence[str]
    env: Sequence[tuple[str, str]]
    cwd: str
    uid: int
    gid: int
    groups: Sequence[int]
    network: Network
    hosts: Sequence[tuple[str, str]] = ()
    mounts: Sequence[StepMount] = ()
    insecure: bool = False
    devices: Sequence[Device] = ()
    hostname: str = ""

    def to_json(self, resolver: str) -> dict[str, Any]:
        """The worker's specification of this step; ``resolver`` is the text of its /etc/resolv.conf."""
        return {
            "lowers": [str(path) for path in self.lowers],
            "upper": str(self.active.upper),
            "work": str(self.active.work),
            "argv": list(self.argv),
            "env": dict(self.env),
            "cwd": self.cwd,
            "uid": self.uid,
            "gid": self.gid,
            "groups": list(self.groups),
            "network": self.network,
            "hostname": self.hostname or HOSTNAME,
            "insecure": self.insecure,
            "files": {"resolv.conf": resolver, "hosts": self._hosts()},
            "mounts": [mount.to_json() for mount in self.mounts],
            "devices": [device.to_json() for device in self.devices],
        }

    def _hosts(self) -> str:
        lines = [
            f"127.0.0.1 localhost {self.hostname or HOSTNAME}",
            "::1 localhost ip6-localhost ip6-loopback",
        ]
        return "\n".join([*lines, *(f"{address} {name}" for name, address in self.hosts)]) + "\n"
