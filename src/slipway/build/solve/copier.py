"""COPY, ADD and WORKDIR: layers straight from where their files are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from slipway.build.copy import content_key, content_parts
from slipway.build.explain import Inputs
from slipway.build.keys import frame, key_of
from slipway.build.made import Made
from slipway.build.plan import CopyOp, WorkdirOp
from slipway.build.remote import Credentials
from slipway.build.solve.copying import copy_entries, directory_entries, fetched, selected
from slipway.build.solve.inputs import copied, material_of
from slipway.build.solve.layers import LayerMaker
from slipway.build.solve.report import Step
from slipway.build.solve.roots import Roots, chain_of
from slipway.build.solve.running import ended
from slipway.build.solve.sources import Sources
from slipway.layers import Entry, Layer
from slipway.snapshots import LayerRef


class Copier:
    """Carries out these operations of one build."""

    def __init__(self, maker: LayerMaker, roots: Roots, sources: Sources, credentials: Credentials) -> None:
        self._maker = maker
        self._roots = roots
        self._sources = sources
        self._credentials = credentials

    async def workdir(self, operation: WorkdirOp, layers: tuple[LayerRef, ...], step: Step) -> Made:
        root = await self._roots.root(layers)
        entries = await asyncio.to_thread(directory_entries, root, operation.path, operation.user)
        key = content_key("workdir", b"", entries, self._maker.solver.hashes)
        step.key = key
        facts = {
            "what has to be made": " ".join(f"{entry.path} {entry.uid}:{entry.gid}" for entry in entries)
        }
        step.inputs = lambda: Inputs(key, operation.created_by, facts)

        async def make() -> Layer | None:
            return await self._maker.write(entries) if entries else None

        made = await self._maker.layer(key, step, operation.created_by, make)
        self._roots.wrote(layers, made, entries, step)
        return made

    async def copy(self, operation: CopyOp, layers: tuple[LayerRef, ...], step: Step) -> Made:
        facts = await self._facts(operation, layers)
        known = self._maker.solver.copies.get(facts) if facts is not None else None
        if known is not None and (made := await self._maker.found(known, step)) is not None:
            step.key, step.inputs = known, lambda: Inputs(known, operation.created_by)
            return made
        async with AsyncExitStack() as stack:
            new = await self._sources.pending(operation.source) is not None
            tree = await self._sources.tree(operation.source, stack)
            sources = await asyncio.to_thread(selected, operation, tree)
            for source in operation.remotes:
                found = await stack.enter_async_context(
                    self._maker.solver.remotes.fetched(source, self._credentials)
                )
                self._sources.materials[source.url] = material_of(source, found.revision)
                sources.append(await asyncio.to_thread(fetched, operation, found, source))
            root = await self._roots.root(layers)
            hashes = self._maker.solver.hashes
            entries = await asyncio.to_thread(copy_entries, operation, sources, root)
            write = await stack.enter_async_context(self._writing(entries, new))
            parts = await asyncio.to_thread(content_parts, entries, hashes)
            key = key_of("copy", (operation.definition(), *parts))
            step.key, step.inputs = key, lambda: copied(operation, key, entries, parts)
            if facts is not None:
                self._maker.solver.copies.put(facts, key)
            made = await self._maker.layer(key, step, operation.created_by, write)
            if (
                not operation.remotes
            ):  # what was fetched is open until here only, and is read from the layer later
                self._roots.wrote(layers, made, entries, step)
            return made

    @asynccontextmanager
    async def _writing(
        self, entries: list[Entry], at_once: bool
    ) -> AsyncIterator[Callable[[], Awaitable[Layer | None]]]:
        """What makes the layer. ``at_once``: it is written while the key is still being found.

        A step that has only just run leaves what was hardly ever seen before; where it was, the work was for nothing.
        """
        if not at_once:
            yield lambda: self._maker.write(entries)
            return
        task = asyncio.create_task(self._maker.write(entries))
        task.add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )  # told by who needs the layer
        try:
            yield lambda: asyncio.shield(task)
        except BaseException:
            task.cancel()
            raise
        await ended(task)  # its threads read what is closed behind this block

    async def _facts(self, operation: CopyOp, layers: tuple[LayerRef, ...]) -> bytes | None:
        """All that the copy's key depends on, without a look at any file; ``None`` if that cannot be said."""
        if operation.remotes or await self._sources.pending(operation.source) is not None:
            return None
        source = await self._sources.layers_of(operation.source)
        given = self._sources.given(operation.source)
        what = str(chain_of(source)).encode() if source is not None else await given.facts()
        return frame(what, operation.whole(), str(chain_of(layers))) if what is not None else None
