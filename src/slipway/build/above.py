"""A root with layers on top that were written a moment ago and need not be unpacked to be looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from slipway.layers import Entry
from slipway.snapshots import RootView, resolved

MAX_ENTRIES = 50_000
_LIMIT = 4 * 1024 * 1024


class Root(Protocol):
    """What a COPY or a WORKDIR asks of the root it changes."""

    def lstat(self, path: str) -> Entry | None: ...

    def resolve(self, path: str, follow: bool = True) -> str | None: ...

    def read(self, path: str, limit: int = ..., /) -> bytes | None: ...


class Above:
    """``entries`` by path over ``below``. They come from COPY, ADD and WORKDIR, so that nothing of it is a deletion."""

    def __init__(self, below: RootView, entries: Mapping[str, Entry]) -> None:
        self._below = below
        self._entries = entries

    def lstat(self, path: str) -> Entry | None:
        found = self._entries.get(path)
        if found is not None:
            return found
        parent = path
        while parent := parent.rpartition("/")[0]:
            above = self._entries.get(parent)
            if above is not None and above.kind != "dir":
                return None
        return self._below.lstat(path)

    def resolve(self, path: str, follow: bool = True) -> str | None:
        return resolved(self.lstat, path, follow)

    def read(self, path: str, limit: int = _LIMIT, /) -> bytes | None:
        real = self.resolve(path)
        if real is None:
            return None
        entry = self._entries.get(real)
        if entry is None:
            return self._below.read(real, limit)
        if entry.kind == "hardlink":
            return self.read(entry.target, limit)
        if entry.kind != "file" or entry.open is None:
            return None
        with os.fdopen(entry.open(), "rb") as handle:
            return handle.read(limit)
