"""What is kept for speed, and for how long: the build cache, kept directories, unpacked layers, what was fetched."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from slipway.base.trees import remove_tree
from slipway.build.cache import BuildCache
from slipway.build.cache_mounts import CacheMounts
from slipway.build.records import BuildRecords
from slipway.build.remote import Remotes
from slipway.content import ContentStore
from slipway.errors import Exhausted, Unavailable
from slipway.registry import Registry, Retention, Trash
from slipway.registry.receiving import UPLOAD_AGE
from slipway.snapshots import SnapshotStore

log = logging.getLogger(__name__)
_EVERY_SECONDS = 3600
# A build that found something a moment ago may be about to use it.
_LEAST_GRACE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may stay: nothing unused for longer than ``age``, and of the build cache no more than ``size`` bytes."""

    age: timedelta
    size: int


@dataclass(slots=True)
class Pruned:
    """What went, by kind; ``bytes`` as far as they are known. With ``dry_run`` it is still there."""

    dry_run: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    bytes: int = 0


class Notes(Protocol):
    """Small files that are made again when they are missing."""

    def prune(self, older_than: float) -> int: ...


class Housekeeping:
    """Nothing that an image, a container, a lease or a running build needs is ever removed."""

    def __init__(
        self, blobs: ContentStore, snapshots: SnapshotStore, registry: Registry, cache: BuildCache,
        mounts: CacheMounts, remotes: Remotes, notes: Sequence[Notes], uploads: Path, bounds: Bounds,
        trash: Trash, retention: Retention, builds: BuildRecords, keep_builds: timedelta,
    ) -> None:  # fmt: skip
        self._blobs = blobs
        self._snapshots = snapshots
        self._registry = registry
        self._cache = cache
        self._mounts = mounts
        self._remotes = remotes
        self._notes = notes
        self._uploads = uploads
        self._bounds = bounds
        self._trash = trash
        self._retention = retention
        self._builds = builds
        self._keep_builds = keep_builds

    async def run_forever(self) -> None:
        """Once an hour, as the settings say."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                await self._round()
            except (Unavailable, Exhausted) as error:
                # The database, the bucket, the disk: it comes back, or somebody sees to it.
                log.warning("what nobody needs could not be removed: %s", error.message)

    async def _round(self) -> None:
        await self._registry.uploads.expire()
        await self._retention.run()
        await self._trash.empty()
        if forgotten := await self._builds.prune(self._keep_builds):
            log.info("removed the records and logs of %d builds", forgotten)
        await asyncio.to_thread(self._forgotten_uploads)
        found = await self.prune(self._bounds, unreferenced=UPLOAD_AGE)
        if found.bytes:
            log.info("removed %s, %d bytes", found.counts, found.bytes)

    async def prune(
        self, bounds: Bounds, *, dry_run: bool = False, unreferenced: timedelta = timedelta(hours=1)
    ) -> Pruned:
        """Remove what is beyond ``bounds``, blobs that nothing needs any more included.

        ``unreferenced``: what was pushed and has no manifest yet gets that much time, or the age of ``bounds``.
        """
        done = Pruned(dry_run)
        records = await self._cache.beyond(bounds.age, bounds.size)
        done.counts["cache records"] = len(records)
        done.bytes += sum(records.values())
        old = [item for item in await asyncio.to_thread(self._mounts.usage) if _is_old(item.used, bounds.age)]
        done.counts["cache mounts"] = len(old)
        done.bytes += sum(item.size for item in old)
        if dry_run:
            return done
        await self._cache.forget(records)
        for item in old:
            await self._mounts.remove(item.scope, item.id)
        done.counts["fetched sources"] = await self._remotes.prune(bounds.age)
        oldest = time.time() - bounds.age.total_seconds()
        for notes in self._notes:
            await asyncio.to_thread(notes.prune, oldest)
        grace = max(bounds.age, _LEAST_GRACE)
        done.counts["unpacked layers"] = await asyncio.to_thread(self._snapshots.collect, grace)
        roots = functools.partial(self._registry.roots.from_thread, asyncio.get_running_loop())
        blobs = await asyncio.to_thread(self._blobs.collect, roots, min(grace, unreferenced))
        done.counts["blobs"] = blobs.removed
        return done

    def _forgotten_uploads(self) -> None:
        """Contexts that were sent and never built."""
        for path in self._uploads.iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was just used
                if _is_old(path.stat().st_mtime, timedelta(days=1)):
                    remove_tree(path)


def _is_old(used: float, age: timedelta) -> bool:
    return time.time() - used > age.total_seconds()
