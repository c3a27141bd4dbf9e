"""The root file system between two steps, without unpacking what this build has just written itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from slipway.build.above import MAX_ENTRIES, Above, Root
from slipway.build.made import Made
from slipway.build.solve.report import Step
from slipway.layers import Entry
from slipway.oci import Digest, chain_id
from slipway.snapshots import LayerRef, RootView, SnapshotStore


class Roots:
    """The roots of one build."""

    def __init__(self, snapshots: SnapshotStore) -> None:
        self._snapshots = snapshots
        self._written: dict[Digest | None, tuple[tuple[LayerRef, ...], dict[str, Entry]]] = {}

    async def root(self, layers: tuple[LayerRef, ...]) -> Root:
        """The root as it is after ``layers``. What this build copied itself a moment ago is not unpacked for that."""
        below, entries = self._written.get(chain_of(layers), ((), {}))
        if entries and not await asyncio.to_thread(self._is_unpacked, layers):
            return Above(await self.view(below), entries)
        return await self.view(layers)

    def _is_unpacked(self, layers: tuple[LayerRef, ...]) -> bool:
        chain = chain_of(layers)
        return chain is None or self._snapshots.has(chain)

    def wrote(self, layers: tuple[LayerRef, ...], made: Made, entries: Sequence[Entry], step: Step) -> None:
        """Remember what a layer on top of ``layers`` has in it."""
        if made.layer is None or step.cached:
            return
        below, before = self._written.get(chain_of(layers), (layers, {}))
        if len(before) + len(entries) <= MAX_ENTRIES:
            self._written[chain_of((*layers, made.layer))] = (
                below,
                before | {item.path: item for item in entries},
            )

    async def view(self, layers: tuple[LayerRef, ...]) -> RootView:
        chain = await asyncio.to_thread(self._snapshots.ensure, layers)
        return await asyncio.to_thread(self._snapshots.view, chain)

    def clear(self) -> None:
        self._written.clear()


def chain_of(layers: tuple[LayerRef, ...]) -> Digest | None:
    return chain_id([layer.diff_id for layer in layers])
