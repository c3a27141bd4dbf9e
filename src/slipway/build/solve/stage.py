"""One stage after another instruction; stages at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from slipway.build.above import MAX_ENTRIES, Above, Root
from slipway.build.attest.provenance import Material
from slipway.build.base_images import BaseImage, BaseImages
from slipway.build.copy import content_key, content_parts
from slipway.build.dockerfile import Copy, DockerfileError, Instruction, Run, Workdir, parse
from slipway.build.explain import Inputs, Trace
from slipway.build.keys import frame, key_of
from slipway.build.made import Made
from slipway.build.plan import (
    BuildPlan,
    ConfigOp,
    CopyOp,
    FromContext,
    FromNamed,
    FromStage,
    Operation,
    RunOp,
    StagePlan,
    StageState,
    WorkdirOp,
    lower,
)
from slipway.build.plan import Source as From
from slipway.build.remote import Credentials
from slipway.build.request import Solved, SolveRequest
from slipway.build.solve.copying import copy_entries, directory_entries, fetched, selected
from slipway.build.solve.history import recorded, time_of
from slipway.build.solve.inputs import copied, material_of
from slipway.build.solve.later import Ahead
from slipway.build.solve.layers import LayerMaker
from slipway.build.solve.mounting import Mounting
from slipway.build.solve.report import Reporter, Step
from slipway.build.solve.running import Pending, Runner
from slipway.build.solve.source import Source
from slipway.build.solve.workers import Workers
from slipway.build.tree import OpenContext, Tree
from slipway.errors import SlipwayError
from slipway.layers import Entry, Layer
from slipway.oci import Digest, ImageConfig, Platform, Reference, chain_id
from slipway.snapshots import LayerRef, RootView

_LAYERED = (Run, Copy, Workdir)
NO_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class StageResult:
    """A finished stage: its state and its layers, but for the last if that is ``pending``."""

    state: StageState
    layers: tuple[LayerRef, ...]
    pending: Pending | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step stands: its stage's name or number, its own number, and how it is shown.

    ``fresh``: the cache is not to be used for it.
    """

    stage: str
    number: int
    label: str
    fresh: bool


class StageRunner:
    """Carries out the needed stages of one build."""

    def __init__(
        self, request: SolveRequest, plan: BuildPlan, contexts: Mapping[str, Source], images: BaseImages,
        workers: Workers, maker: LayerMaker, reporter: Reporter, trace: Trace,
    ) -> None:  # fmt: skip
        self._trace = trace
        self._request = request
        self._plan = plan
        self._contexts = contexts
        self._images = images
        self._maker = maker
        self._reporter = reporter
        self._snapshots = maker.solver.snapshots
        mounting = Mounting(
            maker,
            self._context_of,
            self._layers_of,
            maker.solver.cache_mounts,
            request.project,
            partial(maker.solver.secret_of, request),
            request.agents,
        )
        self._mounting = mounting
        self._runner = Runner(maker, workers, self._snapshots, mounting, request.granted)
        self._credentials = Credentials(request.secrets)
        self._materials: dict[str, Material] = {}
        self._written: dict[Digest | None, tuple[tuple[LayerRef, ...], dict[str, Entry]]] = {}
        self._tasks: dict[int, asyncio.Task[StageResult]] = {}
        self._ran = 0
        self.ahead: list[Ahead] = []
        self._bases = {stage.base for stage in plan.stages.values()} | {plan.target}

    async def run(self) -> Solved:
        try:
            async with asyncio.TaskGroup() as group:
                for index, stage in self._plan.stages.items():
                    self._tasks[index] = group.create_task(self._stage(stage))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            for context in self._contexts.values():
                await context.settle()
            # This object is part of a cycle; what is large in it must not wait for a collection.
            self._written.clear()
        result = self._tasks[self._plan.target].result()
        labels = dict(result.state.config.config.get("Labels") or {}) | dict(self._request.labels)
        config = result.state.config.with_config(Labels=labels or None)
        if self._request.epoch is not None:
            config = replace(config, created=time_of(self._request.epoch))
        diff_ids = tuple(layer.diff_id for layer in result.layers)
        return Solved(
            replace(config, diff_ids=diff_ids), result.layers, self._ran == 0, self._maker.records,
            tuple(self._mounting.used.values()), tuple(self._materials.values()),
        )  # fmt: skip

    async def _stage(self, stage: StagePlan) -> StageResult:
        state, layers, triggers = await self._base(stage)
        total = len(stage.instructions) + len(triggers)
        name = stage.name or (f"stage-{stage.index}" if len(self._plan.stages) > 1 else "")
        instructions = (*triggers, *stage.instructions)
        ahead = self._last_run(stage, instructions)
        pending: Pending | None = None
        fresh = self._request.no_cache or bool(self._request.uncached & {stage.name, str(stage.index)})
        for number, instruction in enumerate(instructions, 1):
            operation = await asyncio.to_thread(lower, instruction, state, self._plan, stage.index)
            shown = f"{name} {number}/{total}".strip()
            place = _Place(stage.name or str(stage.index), number, shown, fresh)
            try:
                if number == ahead and isinstance(operation, RunOp):
                    state, made, pending = await self._run_ahead(operation, state, layers, place)
                else:
                    state, made = await self._operation(operation, state, layers, place)
            except DockerfileError:
                raise
            except SlipwayError as error:
                raise _placed(error, operation) from error
            if made is not None and made.layer is not None:
                layers = (*layers, made.layer)
        return StageResult(state, layers, pending)

    def _last_run(self, stage: StagePlan, instructions: Sequence[object]) -> int:
        """The number of the RUN whose layer nothing needs, if the stage ends with one and is only copied from."""
        if stage.index in self._bases or self._request.cache_to:
            return 0
        made = [number for number, item in enumerate(instructions, 1) if isinstance(item, _LAYERED)]
        return made[-1] if made and isinstance(instructions[made[-1] - 1], Run) else 0

    async def _run_ahead(
        self, operation: RunOp, state: StageState, layers: tuple[LayerRef, ...], place: _Place
    ) -> tuple[StageState, Made | None, Pending | None]:
        with self._reporter.step(place.label, operation.created_by) as step:
            step.fresh = place.fresh
            platform, warn = state.config.platform, self._reporter.warning
            found = await self._runner.run_ahead(operation, layers, step, platform, warn)
            await self._traced(place, step)
        if not step.cached:
            self._ran += 1
        if isinstance(found, Pending):
            self.ahead.append(found.ahead)
            return state, None, found
        return state, found, None

    async def _base(
        self, stage: StagePlan
    ) -> tuple[StageState, tuple[LayerRef, ...], tuple[Instruction, ...]]:
        if isinstance(stage.base, int):
            result = await self._tasks[stage.base]
            return result.state, result.layers, ()
        if stage.base is None:
            config = ImageConfig(self._request.platform, config={"Env": [NO_PATH], "WorkingDir": "/"})
            return StageState(config), (), ()
        stated = stage.source.platform
        platform = Platform.parse(stated) if stated and "$" not in stated else self._request.platform
        try:
            image = await self._resolved(stage.base, platform)
        except SlipwayError as error:
            raise DockerfileError(
                error.message, stage.source.location, word=stage.source.base, hint=error.hint
            ) from error
        if image.config.platform.architecture != platform.architecture:
            self._reporter.warning(
                f"{stage.source.location.file}:{stage.source.location.line}: {stage.base} is for "
                f"{image.config.platform}, not for {platform}"
            )
        config, triggers = image.config, tuple(image.config.config.get("OnBuild") or ())
        if "PATH" not in config.environment:
            config = config.with_config(Env=[NO_PATH, *(config.config.get("Env") or [])])
        found: tuple[Instruction, ...] = ()
        if triggers:
            text = "FROM scratch\n" + "\n".join(triggers)
            found = parse(text, f"ONBUILD of {stage.source.base}").stages[0].instructions
            config = config.with_config(OnBuild=None)
        return StageState(config), image.layers, found

    async def _operation(
        self, operation: Operation, state: StageState, layers: tuple[LayerRef, ...], place: _Place
    ) -> tuple[StageState, Made | None]:
        epoch = self._request.epoch
        if isinstance(operation, ConfigOp):
            if not operation.recorded:
                return operation.state, None
            return recorded(operation.state, operation.created_by, None, epoch), None
        with self._reporter.step(place.label, operation.created_by) as step:
            step.fresh = place.fresh
            if isinstance(operation, RunOp):
                made = await self._runner.run(operation, layers, step, state.config.platform)
            elif isinstance(operation, WorkdirOp):
                state = operation.state
                made = await self._workdir(operation, layers, step)
            else:
                made = await self._copy(operation, layers, step)
            await self._traced(place, step)
        if not step.cached:
            self._ran += 1
        return recorded(state, operation.created_by, made, epoch), made

    async def _traced(self, place: _Place, step: Step) -> None:
        """Remember what the step depended on, and say what of that was new."""
        if step.cached:
            self._trace.cached(place.stage, place.number, step.key, step.name)
            return
        found = await asyncio.to_thread(lambda: self._trace.missed(place.stage, place.number, step.inputs()))
        step.why = ["the cache was not to be used"] if step.fresh else found

    async def _root(self, layers: tuple[LayerRef, ...]) -> Root:
        """The root as it is after ``layers``. What this build copied itself a moment ago is not unpacked for that."""
        below, entries = self._written.get(_chain(layers), ((), {}))
        if entries and not await asyncio.to_thread(self._is_unpacked, layers):
            return Above(await self._view(below), entries)
        return await self._view(layers)

    def _is_unpacked(self, layers: tuple[LayerRef, ...]) -> bool:
        chain = _chain(layers)
        return chain is None or self._snapshots.has(chain)

    def _wrote(self, layers: tuple[LayerRef, ...], made: Made, entries: Sequence[Entry], step: Step) -> None:
        """Remember what a layer on top of ``layers`` has in it."""
        if made.layer is None or step.cached:
            return
        below, before = self._written.get(_chain(layers), (layers, {}))
        if len(before) + len(entries) <= MAX_ENTRIES:
            self._written[_chain((*layers, made.layer))] = (
                below,
                before | {item.path: item for item in entries},
            )

    async def _view(self, layers: tuple[LayerRef, ...]) -> RootView:
        chain = await asyncio.to_thread(self._snapshots.ensure, layers)
        return await asyncio.to_thread(self._snapshots.view, chain)

    async def _workdir(self, operation: WorkdirOp, layers: tuple[LayerRef, ...], step: Step) -> Made:
        root = await self._root(layers)
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
        self._wrote(layers, made, entries, step)
        return made

    async def _copy(self, operation: CopyOp, layers: tuple[LayerRef, ...], step: Step) -> Made:
        facts = await self._facts(operation, layers)
        known = self._maker.solver.copies.get(facts) if facts is not None else None
        if known is not None and (made := await self._maker.found(known, step)) is not None:
            step.key, step.inputs = known, lambda: Inputs(known, operation.created_by)
            return made
        async with AsyncExitStack() as stack:
            tree = await self._tree(operation, stack)
            sources = await asyncio.to_thread(selected, operation, tree)
            for source in operation.remotes:
                found = await stack.enter_async_context(
                    self._maker.solver.remotes.fetched(source, self._credentials)
                )
                self._materials[source.url] = material_of(source, found.revision)
                sources.append(await asyncio.to_thread(fetched, operation, found, source))
            root = await self._root(layers)
            hashes = self._maker.solver.hashes
            entries = await asyncio.to_thread(copy_entries, operation, sources, root)
            parts = await asyncio.to_thread(content_parts, entries, hashes)
            key = key_of("copy", (operation.definition(), *parts))
            step.key, step.inputs = key, lambda: copied(operation, key, entries, parts)
            if facts is not None:
                self._maker.solver.copies.put(facts, key)
            made = await self._maker.layer(
                key, step, operation.created_by, lambda: self._maker.write(entries)
            )
            self._wrote(layers, made, entries, step)
            return made

    async def _facts(self, operation: CopyOp, layers: tuple[LayerRef, ...]) -> bytes | None:
        """All that the copy's key depends on, without a look at any file; ``None`` if that cannot be said."""
        if operation.remotes or await self._pending(operation.source) is not None:
            return None
        source = await self._layers_of(operation.source)
        given = self._given(operation.source)
        what = str(_chain(source)).encode() if source is not None else await given.facts()
        return frame(what, operation.whole(), str(_chain(layers))) if what is not None else None

    async def _pending(self, source: From) -> Pending | None:
        """The last step of the stage, if it is done but its layer is not written."""
        if not isinstance(source, FromStage):
            return None
        pending = (await self._tasks[source.index]).pending
        return pending if pending is not None and pending.ahead.active is not None else None

    async def _tree(self, operation: CopyOp, stack: AsyncExitStack) -> Tree:
        if (pending := await self._pending(operation.source)) is not None:
            active = await stack.enter_async_context(pending.ahead.reading())
            if active is not None:
                return await asyncio.to_thread(self._snapshots.view_of, active)
        layers = await self._layers_of(operation.source)
        return self._context_of(operation.source) if layers is None else await self._view(layers)

    def _context_of(self, source: From) -> OpenContext:
        return self._given(source).context

    def _given(self, source: From) -> Source:
        return self._contexts[source.name if isinstance(source, FromNamed) else ""]

    async def _layers_of(self, source: From) -> tuple[LayerRef, ...] | None:
        """The layers of a stage, once it is finished, or of an image; ``None`` for the context."""
        if isinstance(source, FromContext | FromNamed):
            return None
        if isinstance(source, FromStage):
            result = await self._tasks[source.index]
            if result.pending is None:
                return result.layers
            made = await self._runner.finished(result.pending)
            return (*result.layers, made.layer) if made.layer is not None else result.layers
        return (await self._resolved(source.reference, self._request.platform)).layers

    async def _resolved(self, reference: Reference, platform: Platform) -> BaseImage:
        image = await self._images.resolve(reference, platform)
        uri = f"docker://{reference.with_digest(image.digest)}"
        self._materials[uri] = Material(uri, {image.digest.algorithm: image.digest.hex})
        return image


def _chain(layers: tuple[LayerRef, ...]) -> Digest | None:
    return chain_id([layer.diff_id for layer in layers])


def _placed(error: SlipwayError, operation: Operation) -> SlipwayError:
    """The error with the place in the Dockerfile in front."""
    location = operation.location
    error.message = f"{location.file}:{location.line}: {error.message}"
    error.context = {**error.context, "file": location.file, "line": location.line}
    return error


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that is no mere consequence of another."""
    for error in errors.exceptions:
        found = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, asyncio.CancelledError):
            return found
    return errors.exceptions[0]
