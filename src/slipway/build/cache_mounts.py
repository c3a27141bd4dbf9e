"""Directories that RUN steps keep between builds (``--mount=type=cache``).

On disk, below one directory: ``<sha256 of scope and id>/<n>/`` are the directories, with the container's own ids, and
``<sha256>/about.json`` says whose they are. A scope is a project: no project sees what another's steps left, and so
none can poison or read it. Number 0 is the usual one; ``sharing=private`` takes a further one when that is in use.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slipway.base.files import read_json, write_json
from slipway.base.ids import new_id
from slipway.base.trees import disk_usage, remove_tree
from slipway.build.dockerfile import CacheMount
from slipway.build.keys import frame
from slipway.errors import Conflict

Fill = Callable[[Path], Awaitable[None]]
_ABOUT = "about.json"
_NEW = ".new-"


@dataclass(slots=True)
class _Slot:
    """Who uses one directory now."""

    users: int = 0
    exclusive: bool = False

    @property
    def free(self) -> bool:
        return not self.users and not self.exclusive


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """One kept directory: whose, under which id, how many bytes on disk, when last used (seconds)."""

    scope: str
    id: str
    size: int
    used: float


class CacheMounts:
    """All kept directories of a server. One process has them, so what is in use is known in memory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._slots: dict[str, defaultdict[int, _Slot]] = defaultdict(lambda: defaultdict(_Slot))
        self._changed = asyncio.Condition()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    @asynccontextmanager
    async def use(self, scope: str, mount: CacheMount, fill: Fill | None = None) -> AsyncIterator[Path]:
        """The directory for as long as the block runs, shared or waited for as the mount says.

        ``fill`` puts in what a new one begins with.
        """
        name = hashlib.sha256(frame(scope, mount.id)).hexdigest()
        async with self._held(name, mount.sharing) as number:
            yield await self._directory(name, number, scope, mount, fill)

    @asynccontextmanager
    async def _held(self, name: str, sharing: str) -> AsyncIterator[int]:
        """One of the directories of this name, as ``sharing`` says; its number."""
        slots = self._slots[name]
        number = await self._acquire(slots, sharing)
        try:
            yield number
        finally:
            await self._release(slots, number)

    async def _release(self, slots: defaultdict[int, _Slot], number: int) -> None:
        async with self._changed:
            slot = slots[number]
            if slot.exclusive:
                slot.exclusive = False
            else:
                slot.users -= 1
            self._changed.notify_all()

    async def _acquire(self, slots: defaultdict[int, _Slot], sharing: str) -> int:
        async with self._changed:
            if sharing == "private":
                number = next(number for number in range(len(slots) + 1) if slots[number].free)
                slots[number].exclusive = True
                return number
            slot = slots[0]
            if sharing == "locked":
                await self._changed.wait_for(lambda: slot.free)
                slot.exclusive = True
            else:
                await self._changed.wait_for(lambda: not slot.exclusive)
                slot.users += 1
            return 0

    async def _directory(
        self, name: str, number: int, scope: str, mount: CacheMount, fill: Fill | None
    ) -> Path:
        home = self._root / name
        path = home / str(number)
        if not path.exists():
            home.mkdir(exist_ok=True, mode=0o700)
            write_json(home / _ABOUT, {"scope": scope, "id": mount.id}, durable=False)
            made = home / f"{_NEW}{new_id()}"
            made.mkdir()
            try:
                if fill is not None:
                    await fill(made)
                os.chown(made, mount.uid, mount.gid)
                made.chmod(mount.mode)
                # Two that share it may both have made it: the second finds it, or replaces it empty.
                if not path.exists():
                    made.rename(path)
            finally:
                await asyncio.to_thread(remove_tree, made)
        os.utime(home)
        return path

    @asynccontextmanager
    async def kept(self, scope: str, mount: CacheMount) -> AsyncIterator[Path | None]:
        """The directory as it is, for reading while nobody else has it alone; ``None`` if there is none."""
        name = hashlib.sha256(frame(scope, mount.id)).hexdigest()
        async with self._held(name, "shared") as number:
            path = self._root / name / str(number)
            yield path if path.exists() else None

    def usage(self) -> list[CacheUsage]:
        """What is kept, the least recently used first. Blocks."""
        found = []
        for home in self._root.iterdir():
            try:
                about = read_json(home / _ABOUT)
                used = home.stat().st_mtime
            except (OSError, ValueError):
                continue
            found.append(CacheUsage(about["scope"], about["id"], disk_usage(home), used))
        return sorted(found, key=lambda item: item.used)

    async def remove(self, scope: str, mount_id: str) -> bool:
        """Remove a kept directory; whether it was there and not in use."""
        name = hashlib.sha256(frame(scope, mount_id)).hexdigest()
        async with self._changed:
            if not (self._root / name).exists() or not all(slot.free for slot in self._slots[name].values()):
                return False
            doomed = self._root / f"{_NEW}{new_id()}"
            (self._root / name).rename(doomed)  # its slots stay: somebody may be about to take one of them
        await asyncio.to_thread(remove_tree, doomed)
        return True

    async def remove_all(self, scope: str) -> None:
        """All that are kept for one scope. Raises ``Conflict`` while one of them is in use."""
        for mount_id in await asyncio.to_thread(self._ids, scope):
            if not await self.remove(scope, mount_id) and mount_id in self._ids(scope):
                raise Conflict(
                    f"a build of {scope} is using what earlier ones kept in the cache mount {mount_id!r}",
                    hint="wait for it, or cancel it: slipway builds ls",
                )

    def _ids(self, scope: str) -> list[str]:
        found = []
        for about in self._root.glob(f"*/{_ABOUT}"):
            with suppress(OSError, ValueError):
                value = read_json(about)
                if value["scope"] == scope:
                    found.append(str(value["id"]))
        return found

    def recover(self) -> None:
        """Remove what a killed server left half made or half removed."""
        for path in (*self._root.glob(f"{_NEW}*"), *self._root.glob(f"*/{_NEW}*")):
            remove_tree(path)
