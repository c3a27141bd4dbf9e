"""Where a COPY and a mount take from: a stage, an image, the context or a further one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from slipway.build.attest.provenance import Material
from slipway.build.base_images import BaseImage, BaseImages
from slipway.build.plan import FromContext, FromNamed, FromStage, StageState
from slipway.build.plan import Source as From
from slipway.build.solve.roots import Roots
from slipway.build.solve.running import Pending
from slipway.build.solve.source import Source
from slipway.build.tree import OpenContext, Tree
from slipway.oci import Platform, Reference
from slipway.snapshots import LayerRef, SnapshotStore


@dataclass(frozen=True, slots=True)
class StageResult:
    """A finished stage: its state and its layers, but for the last if that is ``pending``."""

    state: StageState
    layers: tuple[LayerRef, ...]
    pending: Pending | None = None


class Sources:
    """What one build can take from.

    ``tasks`` are its stages, by number; ``materials`` is what it took from elsewhere.
    """

    def __init__(
        self, contexts: Mapping[str, Source], images: BaseImages, platform: Platform, roots: Roots,
        snapshots: SnapshotStore,
    ) -> None:  # fmt: skip
        self._contexts = contexts
        self._images = images
        self._platform = platform
        self._roots = roots
        self._snapshots = snapshots
        self.tasks: dict[int, asyncio.Task[StageResult]] = {}
        self.materials: dict[str, Material] = {}

    async def tree(self, source: From, stack: AsyncExitStack) -> Tree:
        if (pending := await self.pending(source)) is not None:
            active = await stack.enter_async_context(pending.ahead.reading())
            if active is not None:
                return await asyncio.to_thread(self._snapshots.view_of, active)
        layers = await self.layers_of(source)
        return self.context_of(source) if layers is None else await self._roots.view(layers)

    async def pending(self, source: From) -> Pending | None:
        """The last step of the stage, if it is done but its layer is not written."""
        if not isinstance(source, FromStage):
            return None
        pending = (await self.tasks[source.index]).pending
        return pending if pending is not None and pending.ahead.active is not None else None

    async def layers_of(self, source: From) -> tuple[LayerRef, ...] | None:
        """The layers of a stage, once it is finished, or of an image; ``None`` for the context."""
        if isinstance(source, FromContext | FromNamed):
            return None
        if isinstance(source, FromStage):
            result = await self.tasks[source.index]
            if result.pending is None:
                return result.layers
            made = await result.pending.finished()
            return (*result.layers, made.layer) if made.layer is not None else result.layers
        return (await self.resolved(source.reference, self._platform)).layers

    def context_of(self, source: From) -> OpenContext:
        return self.given(source).context

    def given(self, source: From) -> Source:
        return self._contexts[source.name if isinstance(source, FromNamed) else ""]

    async def resolved(self, reference: Reference, platform: Platform) -> BaseImage:
        image = await self._images.resolve(reference, platform)
        uri = f"docker://{reference.with_digest(image.digest)}"
        self.materials[uri] = Material(uri, {image.digest.algorithm: image.digest.hex})
        return image
