"""One stage after another instruction; stages at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from slipway.base.tasks import first_error
from slipway.build.base_images import BaseImages
from slipway.build.dockerfile import Copy, DockerfileError, Instruction, Run, Workdir, parse
from slipway.build.explain import Trace
from slipway.build.made import Made
from slipway.build.plan import (
    BuildPlan,
    ConfigOp,
    Operation,
    RunOp,
    StagePlan,
    StageState,
    WorkdirOp,
    lower,
)
from slipway.build.remote import Credentials
from slipway.build.request import Solved, SolveRequest
from slipway.build.solve.copier import Copier
from slipway.build.solve.history import recorded, time_of
from slipway.build.solve.later import Ahead
from slipway.build.solve.layers import LayerMaker
from slipway.build.solve.mounting import Mounting
from slipway.build.solve.report import Reporter, Step
from slipway.build.solve.roots import Roots
from slipway.build.solve.running import Pending, Runner
from slipway.build.solve.source import Source
from slipway.build.solve.sources import Sources, StageResult
from slipway.build.solve.workers import Workers
from slipway.errors import SlipwayError
from slipway.oci import ImageConfig, Platform
from slipway.snapshots import LayerRef

_LAYERED = (Run, Copy, Workdir)
NO_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
        self._maker = maker
        self._reporter = reporter
        snapshots = maker.solver.snapshots
        self._roots = Roots(snapshots)
        self._sources = Sources(contexts, images, request.platform, self._roots, snapshots)
        mounting = Mounting(
            maker,
            self._sources.context_of,
            self._sources.layers_of,
            maker.solver.cache_mounts,
            request.project,
            partial(maker.solver.secret_of, request),
            request.agents,
        )
        self._mounting = mounting
        self._runner = Runner(maker, workers, snapshots, mounting, request.granted)
        self._copier = Copier(maker, self._roots, self._sources, Credentials(request.secrets))
        self._ran = 0
        self.ahead: list[Ahead] = []
        self._bases = {stage.base for stage in plan.stages.values()} | {plan.target}

    async def run(self) -> Solved:
        try:
            async with asyncio.TaskGroup() as group:
                for index, stage in self._plan.stages.items():
                    self._sources.tasks[index] = group.create_task(self._stage(stage))
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        finally:
            for context in self._contexts.values():
                await context.settle()
            # This object is part of a cycle; what is large in it must not wait for a collection.
            self._roots.clear()
        result = self._sources.tasks[self._plan.target].result()
        labels = dict(result.state.config.config.get("Labels") or {}) | dict(self._request.labels)
        config = result.state.config.with_config(Labels=labels or None)
        if self._request.epoch is not None:
            config = replace(config, created=time_of(self._request.epoch))
        diff_ids = tuple(layer.diff_id for layer in result.layers)
        return Solved(
            replace(config, diff_ids=diff_ids), result.layers, self._ran == 0, self._maker.records,
            tuple(self._mounting.used.values()), tuple(self._sources.materials.values()),
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
            result = await self._sources.tasks[stage.base]
            return result.state, result.layers, ()
        if stage.base is None:
            config = ImageConfig(self._request.platform, config={"Env": [NO_PATH], "WorkingDir": "/"})
            return StageState(config), (), ()
        stated = stage.source.platform
        platform = Platform.parse(stated) if stated and "$" not in stated else self._request.platform
        try:
            image = await self._sources.resolved(stage.base, platform)
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
                made = await self._copier.workdir(operation, layers, step)
            else:
                made = await self._copier.copy(operation, layers, step)
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


def _placed(error: SlipwayError, operation: Operation) -> SlipwayError:
    """The error with the place in the Dockerfile in front."""
    location = operation.location
    error.message = f"{location.file}:{location.line}: {error.message}"
    error.context = {**error.context, "file": location.file, "line": location.line}
    return error
