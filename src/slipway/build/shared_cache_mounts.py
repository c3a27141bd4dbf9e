"""Directories that RUN steps keep on a volume that several processes use at the same time, on any node.

As ``CacheMounts``; what is in use is known by locks on files beside the directories (``<sha256>/<n>.lock``), which
end with the process that has them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from slipway.base.ids import new_id
from slipway.base.trees import remove_tree
from slipway.build.cache_mounts import CacheMounts

_POLL = 0.2
_STALE_SECONDS = 24 * 3600.0
_LEAST_FREE, _FREE_AGAIN = 0.1, 0.2


class SharedCacheMounts(CacheMounts):
    """All kept directories of one project. Locks need no memory of this process, so that has none of them."""

    @asynccontextmanager
    async def _held(self, name: str, sharing: str) -> AsyncIterator[int]:
        home = self._root / name
        how = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
        number = 0
        while (fd := await asyncio.to_thread(_locked, home / f"{number}.lock", how)) is None:
            if sharing == "private":
                number += 1
            else:
                await asyncio.sleep(_POLL)
        try:
            yield number
        finally:
            os.close(fd)

    def make_room(self) -> None:
        """Where the volume is nearly full, remove what was not used for longest, and what killed ones left. Blocks."""
        for path in (*self._root.glob(".new-*"), *self._root.glob("*/.new-*")):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    remove_tree(path)
        if self._free() >= _LEAST_FREE:
            return
        for home in sorted(self._root.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime):
            if self._free() >= _FREE_AGAIN:
                return
            self._remove_unused(home)

    def _remove_unused(self, home: Path) -> None:
        held = []
        try:
            for file in home.glob("*.lock"):
                if (fd := _locked(file, fcntl.LOCK_EX)) is None:
                    return
                held.append(fd)
            doomed = self._root / f".new-{new_id()}"
            with suppress(FileNotFoundError):
                home.rename(doomed)
                remove_tree(doomed)
        finally:
            for fd in held:
                os.close(fd)

    def _free(self) -> float:
        """Which part of the volume is free: of its bytes or of its files, whichever is less."""
        found = os.statvfs(self._root)
        parts = [(found.f_bavail, found.f_blocks), (found.f_favail, found.f_files)]
        return min((free / there for free, there in parts if there), default=1.0)


def _locked(path: Path, how: int) -> int | None:
    """A descriptor that has the lock, or nothing if somebody else has. Blocks, but waits for nobody."""
    path.parent.mkdir(exist_ok=True, mode=0o700)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None  # removed between the two: the next try makes it again
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass  # somebody has it, or has just removed all of it
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
