"""Subordinate id ranges: one for each sandbox of this host that exists at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import Exhausted

ID_COUNT = 65536
_DEFAULT_START, _DEFAULT_RANGES = 0x2000_0000, 4096
_LOCKS = Path("/run/slipway/ids")
_USER = "slipway"


@dataclass(frozen=True, slots=True)
class IdRange:
    """``count`` ids from ``start`` up; taken for as long as any process has ``lock`` open."""

    start: int
    lock: int
    count: int = ID_COUNT

    def release(self) -> None:
        os.close(self.lock)


class IdRanges:
    """The ranges of the user ``slipway`` in /etc/subuid and /etc/subgid, else a part of the id space nobody uses.

    A range is taken by ``flock``, so that servers do not meet and a killed one's are free when its workers are gone.
    """

    def __init__(self, locks: Path = _LOCKS, start: int | None = None, count: int = _DEFAULT_RANGES) -> None:
        self._locks = locks
        self._starts = [start + slot * ID_COUNT for slot in range(count)] if start is not None else _starts()

    def take(self) -> IdRange:
        self._locks.mkdir(parents=True, exist_ok=True, mode=0o700)
        for start in self._starts:
            fd = os.open(
                self._locks / str(start), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            return IdRange(start, fd)
        raise Exhausted(
            f"all {len(self._starts)} id ranges for build workers are in use",
            hint=f"give the user {_USER!r} more ids in /etc/subuid and /etc/subgid, or run fewer builds at once",
        )


def _starts() -> list[int]:
    granted = sorted(set(_granted(Path("/etc/subuid"))) & set(_granted(Path("/etc/subgid"))))
    return granted or [_DEFAULT_START + slot * ID_COUNT for slot in range(_DEFAULT_RANGES)]


def _granted(file: Path) -> Iterator[int]:
    """Starts of the whole ranges that the host's administrator set aside for us."""
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            name, _, rest = line.partition(":")
            first, _, count = rest.partition(":")
            if name == _USER and first.isdigit() and count.isdigit():
                yield from (int(first) + slot * ID_COUNT for slot in range(int(count) // ID_COUNT))
