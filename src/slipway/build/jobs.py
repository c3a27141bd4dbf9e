"""Build jobs: an owner, a project, limits, a record, a log; started, followed, cancelled, recovered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway.base import linux
from slipway.base.clock import now
from slipway.base.ids import new_id
from slipway.base.progress import Progress, silent
from slipway.build.attest.attestor import Attestor
from slipway.build.base_images import Images
from slipway.build.builders import KUBERNETES, BuilderRecord, recover
from slipway.build.builders.records import Builders
from slipway.build.lint import Finding
from slipway.build.logs import BuildLogs, FileLogs
from slipway.build.making import ImageStore, JobRequest, Making
from slipway.build.pods.builder import PodBuilder
from slipway.build.policy import BuildPolicy
from slipway.build.queue import FairQueue
from slipway.build.records import LOG_SIZE, BuildRecords
from slipway.build.request import Built, SolveRequest
from slipway.build.sandbox import Limits, Sandboxes
from slipway.build.solve import Solver
from slipway.errors import Cancelled, Conflict, SlipwayError, Unsupported
from slipway.state import Database

_REST = 2.0
_RESTARTED = "the server was restarted; build it again"
_POD = BuilderRecord(KUBERNETES, KUBERNETES, "")


class BuildJobs:
    """All builds of a server; the ``queue`` says whose turn it is. ``limits`` hold where the project has no own.

    Builds by ``pods`` use none of this machine, and have a queue of their own. Without ``sandboxes`` all builds are by
    Pods. ``logs`` are files in ``directory`` unless said otherwise, of ``log_size`` bytes at most.
    """

    def __init__(
        self, database: Database, solver: Solver, sandboxes: Sandboxes | None, images: ImageStore, directory: Path,
        limits: Limits, queue: FairQueue, attestor: Attestor, pods: PodBuilder | None = None,
        pod_queue: FairQueue | None = None, logs: BuildLogs | None = None, log_size: int = LOG_SIZE,
    ) -> None:  # fmt: skip
        self._pod_queue = pod_queue or queue
        self._database = database
        self._solver = solver
        self._sandboxes = sandboxes
        self._limits = limits
        self._queue = queue
        self._mark = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
        self._making = Making(solver, sandboxes, images, attestor, pods, self._mark)
        self._running: dict[str, asyncio.Task[Built]] = {}
        self.records = BuildRecords(database, logs or FileLogs(directory), log_size)

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
            queue = self._pod_queue if request.in_pod else self._queue
            async with queue.slot(
                request.project, policy.priority + request.priority, policy.parallel,
                lambda ahead: log({**about, "ahead": ahead}),
                request.builder.name if request.builder else "",
            ) as slot:  # fmt: skip
                await self.records.set(build_id, state="running", started=now())
                limits = policy.limits(self._limits)
                built = await self._making.make(build_id, request, limits, policy.allow, images, log, slot)
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


def _done(
    build_id: str, service: str, state: str, error: str, built: Built | None, seconds: float
) -> dict[str, Any]:
    return {
        "event": "build.done", "build": build_id, "service": service, "state": state, "error": error,
        "reference": built.reference if built else "", "digest": str(built.digest) if built else "",
        "cached": built.cached if built else False, "seconds": seconds,
    }  # fmt: skip
