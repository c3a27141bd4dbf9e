"""What processes hold in memory, pages they share divided among them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Peak:
    mib: float = 0


@contextmanager
def peak_memory(pids: Callable[[], Sequence[int]]) -> Iterator[Peak]:
    """The most that these processes held together while the block ran."""
    stop, found = threading.Event(), Peak()

    def watch() -> None:
        while not stop.wait(0.2):
            found.mib = max(found.mib, sum(map(proportional, pids())) / 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()


def family(pid: int) -> list[int]:
    """The process and what it started of our own: its commands' memory is not ours."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = [pid]
    for child in sorted(parents):
        if parents[child] in found and b"python" in _command(child):
            found.append(child)
    return found


def proportional(pid: int) -> int:
    """KiB (PSS)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
