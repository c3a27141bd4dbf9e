"""Control groups for what we start ourselves: version 1, hybrid and version 2 hosts.

A group is limited, entered by its first process, read for OOM kills, emptied and removed. Controllers that the host
does not offer are left out and named, so that the caller can warn.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """``cpus`` (fractions allowed), ``memory`` in bytes, ``pids``; 0 means no limit."""

    cpus: float = 0
    memory: int = 0
    pids: int = 0


def layout(root: Path = ROOT) -> str:
    """``v2``, ``hybrid``, ``v1`` or ``none``."""
    if (root / "cgroup.controllers").exists():
        return "v2"
    if (root / "unified" / "cgroup.controllers").exists():
        return "hybrid"
    return "v1" if (root / "memory").is_dir() or (root / "pids").is_dir() else "none"


class Group:
    """The group ``name`` (a relative path) in every hierarchy that has a controller we limit."""

    def __init__(self, name: str, root: Path = ROOT) -> None:
        self.name = name
        self.missing: list[str] = []
        self._v2 = layout(root) == "v2"
        self._root = root
        names = [""] if self._v2 else ["cpu", "memory", "pids"]
        self._directories = {item: root / item / name for item in names if (root / item).is_dir()}

    def create(self, limits: GroupLimits) -> None:
        for controller, directory in self._directories.items():
            self._make(controller, directory)
        if self._v2:
            self._limit("", "cpu.max", f"{int(limits.cpus * _PERIOD)} {_PERIOD}" if limits.cpus else "")
            self._limit("", "memory.max", str(limits.memory or ""))
            if self._has("", "memory.swap.max"):
                self._limit("", "memory.swap.max", "0" if limits.memory else "")
            self._limit("", "pids.max", str(limits.pids or ""))
            return
        self._limit("cpu", "cpu.cfs_quota_us", str(int(limits.cpus * _PERIOD)) if limits.cpus else "")
        self._limit("memory", "memory.limit_in_bytes", str(limits.memory or ""))
        if self._has("memory", "memory.memsw.limit_in_bytes"):
            self._limit("memory", "memory.memsw.limit_in_bytes", str(limits.memory or ""))
        self._limit("pids", "pids.max", str(limits.pids or ""))

    def _make(self, controller: str, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if self._v2:
            # Controllers reach a group only if every parent passes them on.
            for parent in reversed(directory.relative_to(self._root).parents):
                for name in ("cpu", "memory", "pids"):  # one write for each: one refusal fails a whole write
                    with contextlib.suppress(OSError):
                        (self._root / parent / "cgroup.subtree_control").write_text(f"+{name}")

    def _has(self, controller: str, file: str) -> bool:
        """Swap is counted only by kernels that were built and booted for it."""
        return controller in self._directories and (self._directories[controller] / file).exists()

    def _limit(self, controller: str, file: str, value: str) -> None:
        if not value:
            return
        try:
            (self._directories[controller] / file).write_text(value)
        except (OSError, KeyError):
            self.missing.append(file)

    @property
    def entries(self) -> list[str]:
        """Files that a process writes ``0`` into to enter the group."""
        return [str(directory / "cgroup.procs") for directory in self._directories.values()]

    def oom_kills(self) -> int:
        for controller, file in (("memory", "memory.oom_control"), ("", "memory.events")):
            with contextlib.suppress(OSError, KeyError):
                for line in (self._directories[controller] / file).read_text().splitlines():
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        return 0

    def pids(self) -> set[int]:
        found: set[int] = set()
        for directory in self._directories.values():
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
        return found

    def add(self, pid: int) -> None:
        """Put the process ``pid`` into the group; what it forks from then on is in it, too."""
        for file in self.entries:
            Path(file).write_text(str(pid))

    def kill(self) -> None:
        """Send SIGKILL to everything in the group, once."""
        for directory in self._directories.values():
            with contextlib.suppress(OSError):
                (directory / "cgroup.kill").write_text("1")  # version 2, Linux 5.14: not even a fork escapes
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def destroy(self) -> None:
        """Kill what is in the group and remove it. Blocks for at most a few seconds."""
        end = time.monotonic() + _KILL_SECONDS
        while self.pids() and time.monotonic() < end:
            self.kill()
            time.sleep(0.005)
        for directory in self._directories.values():
            while time.monotonic() < end:
                try:
                    directory.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.005)  # the kernel still counts a process that has just ended


def groups_below(name: str, root: Path = ROOT) -> Iterator[str]:
    """Names of the groups directly below ``name``, in any hierarchy."""
    found: set[str] = set()
    for base in (root, root / "cpu", root / "memory", root / "pids"):
        with contextlib.suppress(OSError):
            found.update(f"{name}/{path.name}" for path in (base / name).iterdir() if path.is_dir())
    yield from sorted(found)
