"""Layers by key: from the cache, from another build in flight, or made now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.base.clock import now
from slipway.build.attest import Watch
from slipway.build.cache_images import Imported
from slipway.build.keys import key_of
from slipway.build.listing import gather
from slipway.build.made import Made
from slipway.build.solve.report import Step
from slipway.content import BlobLease
from slipway.layers import Entry, Layer, write_layer
from slipway.snapshots import LayerRef

if TYPE_CHECKING:
    from slipway.build.solve.solver import Solver


@dataclass(frozen=True, slots=True)
class MadeLayer:
    """A result and whether it was there before."""

    made: Made
    cached: bool


class LayerMaker:
    """Finds or makes the layers of one build, all under its lease."""

    def __init__(
        self, solver: Solver, lease: BlobLease, no_cache: bool, epoch: int | None, imported: Imported
    ) -> None:
        self.solver = solver
        self.lease = lease
        self._no_cache = no_cache
        self.epoch = epoch
        self.imported = imported
        self.records: dict[str, Made] = {}

    async def layer(
        self, key: str, step: Step, description: str, make: Callable[[], Awaitable[Layer | None]]
    ) -> Made:
        """The layer under ``key``, reported as the step's; ``make`` is called only if there is none."""
        began = time.monotonic()
        found = await self.made(key, description, make, fresh=step.fresh)
        step.cached = found.cached
        if found.made.layer is not None and not step.cached:
            step.layer(found.made.layer.blob, round(time.monotonic() - began, 3))
        return found.made

    async def found(self, key: str, step: Step) -> Made | None:
        """The layer under ``key`` if it is there; nothing is made."""
        if self._no_cache or step.fresh or (made := await self.solver.cache.get(self._timed(key))) is None:
            return None
        self.records[self._timed(key)] = made
        if made.layer is not None:
            await asyncio.to_thread(self.lease.add, made.layer.blob.digest)
        step.cached = True
        return made

    async def made(
        self, key: str, description: str, make: Callable[[], Awaitable[Layer | None]], *, fresh: bool = False,
        wanted: asyncio.Event | None = None,
    ) -> MadeLayer:  # fmt: skip
        """The layer under ``key``, kept for this build; ``make`` is called only if nobody has it or makes it.

        ``fresh``: what somebody had before does not count. ``wanted`` is set when somebody else waits for it.
        """
        key = self._timed(key)
        look = not (self._no_cache or fresh)
        if look and (known := await self._known(key)) is not None:
            self.records[key] = known
            return MadeLayer(known, True)
        found, joined = await self.solver.in_flight.once(
            key, lambda: self._find_or_make(key, description, make, look), wanted, fresh=not look
        )
        if found.made.layer is not None:
            await asyncio.to_thread(self.lease.add, found.made.layer.blob.digest)
        self.records[key] = found.made
        return MadeLayer(found.made, found.cached or joined)

    def under(self, lease: BlobLease) -> LayerMaker:
        """The same, for what outlives the build."""
        return LayerMaker(self.solver, lease, self._no_cache, self.epoch, self.imported)

    async def adopt(self, key: str, found: MadeLayer) -> Made:
        """Keep for this build what another maker found or made under ``key``."""
        if found.made.layer is not None:
            await asyncio.to_thread(self.lease.add, found.made.layer.blob.digest)
        self.records[self._timed(key)] = found.made
        return found.made

    async def _known(self, key: str) -> Made | None:
        """A result of an imported cache, which no other build may see, unless our own cache has one."""
        if await self.solver.cache.get(key) is not None:
            return None
        return await self.imported.step(key, self.lease)

    def _timed(self, key: str) -> str:
        """The latest time of a file in a layer is part of it."""
        return key if self.epoch is None else key_of("epoch", (key, str(self.epoch)))

    async def _find_or_make(
        self, key: str, description: str, make: Callable[[], Awaitable[Layer | None]], look: bool
    ) -> MadeLayer:
        if look and (found := await self.solver.cache.get(key)) is not None:
            return MadeLayer(found, True)
        layer = await make()
        if layer is None:
            made = Made(None, 0, now())
        else:
            await asyncio.to_thread(self.lease.add, layer.descriptor.digest)
            made = Made(LayerRef(layer.diff_id, layer.descriptor), layer.uncompressed, now())
        await self.solver.cache.put(key, made, description)
        return MadeLayer(made, False)

    async def write(self, entries: list[Entry]) -> Layer:
        """A layer straight from where its files are."""
        await asyncio.to_thread(gather, entries)
        watch = Watch()
        layer = await asyncio.to_thread(
            write_layer, self.solver.blobs, watch.through(entries), epoch=self.epoch
        )
        await self.looked_at(layer, watch)
        return layer

    async def looked_at(self, layer: Layer, watch: Watch) -> None:
        """Keep what was seen of a layer's packages while it was written."""
        await asyncio.to_thread(self.solver.inventories.keep, layer.descriptor.digest, watch.found)
