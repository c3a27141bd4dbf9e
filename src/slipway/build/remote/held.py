"""One file as a tree."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from slipway.errors import NotFound
from slipway.layers import Entry


class HeldFile:
    """A tree with nothing but one file in it, held open: whatever takes its place, this is the one that was there."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self._entry = Entry(
            path.name, "file", stat.S_IMODE(status.st_mode), mtime=status.st_mtime, size=status.st_size,
            open=self._opened,
        )  # fmt: skip

    def _opened(self) -> int:
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    def with_excludes(self, excludes: Callable[[str, bool], bool]) -> None:
        """Nothing of one file is left out."""

    def lstat(self, path: str) -> Entry | None:
        if not path:
            return Entry("", "dir", 0o755)
        return self._entry if path == self._entry.path else None

    def resolve(self, path: str, follow: bool = True) -> str | None:
        return path if self.lstat(path) is not None else None

    def iterdir(self, path: str) -> list[Entry]:
        return [] if path else [self._entry]

    def open(self, path: str) -> BinaryIO:
        if path != self._entry.path:
            raise NotFound(f"there is no {path!r}")
        return os.fdopen(self._opened(), "rb")
