"""Build jobs: an owner, a project, limits, a record, a log; started, followed, cancelled, recovered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from slipway import __version__
from slipway.base import linux
from slipway.base.clock import iso, now
from slipway.base.ids import new_id
from slipway.base.progress import Progress, silent
from slipway.build.attest import Provenance
from slipway.build.attest.attestor import Attestor
from slipway.build.base_images import Images
from slipway.build.builders import KUBERNETES, BuilderRecord, ForeignBuilder, recover
from slipway.build.builders.records import Builders
from slipway.build.cache_images import Imported
from slipway.build.lint import Finding
from slipway.build.logs import BuildLogs, FileLogs
from slipway.build.pods.builder import Place, PodBuilder
from slipway.build.pods.daemons import daemon_of
from slipway.build.policy import BuildPolicy
from slipway.build.queue import FairQueue
from slipway.build.records import BuildRecords
from slipway.build.request import Built, Solved, SolveRequest
from slipway.build.sandbox import Limits, Sandbox, Sandboxes
from slipway.build.solve import Reporter, Solver
from slipway.build.solve.exporting import exported
from slipway.build.solve.workers import Workers
from slipway.content import BlobLease, holding
from slipway.errors import Cancelled, Conflict, Exhausted, NotFound, SlipwayError, Unsupported
from slipway.oci import Descriptor, ImageConfig
from slipway.state import Database

_LEASE = timedelta(hours=12)
_REST = 2.0
_RESTARTED = "the server was restarted; build it again"
_POD = BuilderRecord(KUBERNETES, KUBERNETES, "")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What is built for whom. ``repository`` and ``tags`` say where the image goes; ``priority`` is -1, 0 or 1.

    Without a ``builder`` our own worker builds.
    """

    project: str
    app: str
    service: str
    owner: str
    repository: str
    tags: Sequence[str]
    solve: SolveRequest
    priority: int = 0
    builder: BuilderRecord | None = None


class ImageStore(Protocol):
    """Where finished images go; the registry is one."""

    async def store_image(
        self,
        repository: str,
        tags: Sequence[str],
        config: ImageConfig,
        layers: Sequence[Descriptor],
        by: str = ...,
    ) -> Descriptor: ...


class BuildJobs:
    """All builds of a server; the ``queue`` says whose turn it is. ``limits`` hold where the project has no own.

    Builds by ``pods`` use none of this machine, and have a queue of their own. Without ``sandboxes`` all builds are by
    Pods. ``logs`` are files in ``directory`` unless said otherwise.
    """

    def __init__(
        self, database: Database, solver: Solver, sandboxes: Sandboxes | None, images: ImageStore, directory: Path,
        limits: Limits, queue: FairQueue, attestor: Attestor, pods: PodBuilder | None = None,
        pod_queue: FairQueue | None = None, logs: BuildLogs | None = None,
    ) -> None:  # fmt: skip
        self._pods = pods
        self._pod_queue = pod_queue or queue
        self._database = database
        self._solver = solver
        self._sandboxes = sandboxes
        self._images = images
        self._directory = directory
        self._limits = limits
        self._queue = queue
        self._attestor = attestor
        self._running: dict[str, asyncio.Task[Built]] = {}
        self.records = BuildRecords(database, logs or FileLogs(directory))

    @property
    def _mark(self) -> str:
        return hashlib.sha256(str(self._directory).encode()).hexdigest()[:16]

    @property
    def running(self) -> int:
        return len(self._running)

    async def run(self, request: JobRequest, images: Images, progress: Progress) -> Built:
        """Build and store. Raises what went wrong; cancelling the caller cancels the build."""
        build_id = new_id(12)
        if request.builder is None and self._sandboxes is None:
            request = replace(request, builder=_POD)
        if request.builder is not None and request.builder.is_local and self._sandboxes is None:
            raise Unsupported(
                f"the builder {request.builder.name!r} is a daemon beside the server, and this server has no machine",
                hint="--builder kubernetes, or an administrator adds one with --pod",
            )
        policy = await self.records.add(
            build_id, request.project, lambda policy: policy.limits(self._limits).to_json(), app=request.app,
            service=request.service, owner=request.owner, source=request.solve.source,
        )  # fmt: skip
        task = asyncio.create_task(self._run(build_id, request, policy, images, progress))
        self._running[build_id] = task
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise Cancelled(f"the build {build_id} was cancelled") from None
        finally:
            self._running.pop(build_id, None)
            asyncio.get_running_loop().call_later(_REST, self._rest)

    def _rest(self) -> None:
        """Nobody builds: what the last builds needed is not kept for the next."""
        if not self._running:
            asyncio.get_running_loop().run_in_executor(None, linux.return_free_memory)

    async def _run(
        self, build_id: str, request: JobRequest, policy: BuildPolicy, images: Images, progress: Progress
    ) -> Built:
        log = self.records.log(build_id, progress)
        began = asyncio.get_running_loop().time()
        log({"event": "build.start", "build": build_id, "service": request.service})
        state, error, built = "failed", "", None
        try:
            about = {"event": "build.queued", "build": build_id, "service": request.service}
            queue = self._pod_queue if _in_pod(request) else self._queue
            async with queue.slot(
                request.project, policy.priority + request.priority, policy.parallel,
                lambda ahead: log({**about, "ahead": ahead}),
            ):  # fmt: skip
                await self.records.set(build_id, state="running", started=now())
                built = await self._solve(build_id, request, policy, images, log)
            state = "succeeded"
            return built
        except asyncio.CancelledError:
            state, error = "cancelled", "cancelled"
            raise
        except SlipwayError as failure:
            error = str(failure)
            raise
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            seconds = round(asyncio.get_running_loop().time() - began, 3)
            log(_done(build_id, request.service, state, error, built, seconds))
            digest = str(built.digest) if built else None
            values = {"state": state, "error": error or None, "image_digest": digest}
            await asyncio.shield(self.records.end(build_id, log, values))

    async def _solve(
        self, build_id: str, request: JobRequest, policy: BuildPolicy, images: Images, log: Progress
    ) -> Built:
        began = now()
        limits = policy.limits(self._limits)
        reporter = Reporter(build_id, request.service, log)
        granted = frozenset(policy.allow)
        line = f"{request.repository} {request.solve.target or ''} {request.solve.platform}"
        wanted = replace(
            request.solve,
            build_id=build_id,
            project=request.project,
            line=line,
            granted=granted,
        )
        async with AsyncExitStack() as stack:
            blobs = self._solver.blobs
            held = await stack.enter_async_context(holding(blobs, f"made {build_id}", ttl=_LEASE))
            try:
                async with asyncio.timeout(limits.seconds):
                    if request.builder is not None and _in_pod(request):
                        solved = await self._in_pod(wanted, request.builder, limits, images, held, reporter)
                    elif request.builder is not None:
                        builder = ForeignBuilder(request.builder, blobs, self._mark)
                        solved = await builder.build(wanted, limits, held, reporter)
                    else:
                        solved = await self._solved(wanted, limits, images, reporter, stack)
            except TimeoutError as error:
                raise Exhausted(
                    f"the build took longer than {limits.seconds} s", hint="raise build.seconds"
                ) from error
            layers = [layer.blob for layer in solved.layers]
            made = [layer.digest for layer in layers]
            async with holding(blobs, f"image {build_id}", *made, ttl=_LEASE) as lease:
                image = await self._images.store_image(
                    request.repository, request.tags, solved.config, layers, request.owner
                )
                told = _told(wanted, request, solved, began)
                await self._attestor.attest(request.repository, image, solved.layers, told)
                for target in wanted.cache_to:
                    content = await exported(
                        solved, target, wanted.project, blobs, self._solver.cache_mounts, lease, reporter
                    )
                    await images.store_cache(target.reference, content)
        reference = f"{request.repository}:{request.tags[0]}" if request.tags else request.repository
        return Built(build_id, reference, image.digest, solved.cached)

    async def _solved(
        self, wanted: SolveRequest, limits: Limits, images: Images, reporter: Reporter, stack: AsyncExitStack
    ) -> Solved:
        """By a worker of our own, which ends with ``stack``."""
        imported = await _imported(wanted, images, reporter)

        sandboxes = self._sandboxes
        assert sandboxes is not None

        async def start() -> Sandbox:
            return await stack.enter_async_context(sandboxes.start(wanted.build_id, limits))

        return await self._solver.solve(wanted, images, Workers(start), reporter, imported)

    async def _in_pod(
        self, wanted: SolveRequest, builder: BuilderRecord, limits: Limits, images: Images, held: BlobLease,
        reporter: Reporter,
    ) -> Solved:  # fmt: skip
        if self._pods is None:
            raise Unsupported("this server starts no Pods")
        imported = await _imported(wanted, images, reporter)
        daemon = await asyncio.to_thread(daemon_of, builder)
        place = Place(wanted.build_id, wanted.project, limits, builder.cluster, daemon=daemon)
        return await self._pods.build(wanted, place, images, imported, held, reporter)

    def check(self, request: SolveRequest) -> list[Finding]:
        """The build checks alone. Raises ``Invalid`` for mistakes. Blocks."""
        return self._solver.check(request)

    async def cancel(self, build_id: str) -> None:
        """Raises ``NotFound``, or ``Conflict`` when it has ended."""
        task = self._running.get(build_id)
        if task is None:
            record = await self.records.get(build_id)
            raise Conflict(f"the build {build_id} has {record.state} already")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def log(self, build_id: str, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """Every event of a build, and with ``follow`` what comes while it runs."""
        async for event in self.records.events(build_id, lambda: build_id in self._running, follow):
            yield event

    async def recover(self) -> None:
        """What was running when the server was killed can be retried."""
        if self._sandboxes is not None:
            self._sandboxes.recover()
        await recover(await Builders(self._database).all(), self._mark)
        for build_id, service in await self.records.active():
            log = self.records.log(build_id, silent)
            log(_done(build_id, service, "interrupted", _RESTARTED, None, 0.0))
            await self.records.end(build_id, log, {"state": "interrupted", "error": _RESTARTED})

    async def close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._solver.later.close()


def _in_pod(request: JobRequest) -> bool:
    return request.builder is not None and request.builder.in_pod


def _told(wanted: SolveRequest, request: JobRequest, solved: Solved, began: datetime) -> Provenance:
    return Provenance(
        wanted.build_id, request.owner, request.project, wanted.source, wanted.dockerfile, wanted.target or "",
        str(wanted.platform), wanted.args, tuple(wanted.secrets), iso(began), iso(now()), solved.materials,
        __version__,
    )  # fmt: skip


async def _imported(request: SolveRequest, images: Images, reporter: Reporter) -> Imported:
    """The caches the build may use. The first build of all has none, so a missing one is no error."""
    found = []
    for reference in request.cache_from:
        try:
            found.append(await images.find_cache(reference))
        except NotFound as error:
            reporter.warning(f"there is no cache {reference}: {error.message}")
    return Imported(found)


def _done(
    build_id: str, service: str, state: str, error: str, built: Built | None, seconds: float
) -> dict[str, Any]:
    return {
        "event": "build.done", "build": build_id, "service": service, "state": state, "error": error,
        "reference": built.reference if built else "", "digest": str(built.digest) if built else "",
        "cached": built.cached if built else False, "seconds": seconds,
    }  # fmt: skip
