"""The solver: from a request to layers and a configuration."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from slipway.build.base_images import BaseImages
from slipway.build.cache import BuildCache
from slipway.build.cache_mounts import CacheMounts
from slipway.build.context import Context
from slipway.build.copy import HashCache, Remembered
from slipway.build.dockerfile import parse
from slipway.build.ignore import IgnoreFile
from slipway.build.plan import BuildPlan, plan
from slipway.build.remote import Remotes
from slipway.build.request import Solved, SolveRequest
from slipway.build.solve.inflight import InFlight
from slipway.build.solve.layers import LayerMaker, MadeLayer
from slipway.build.solve.report import Reporter
from slipway.build.solve.source import Source
from slipway.build.solve.stage import StageRunner
from slipway.build.solve.workers import Workers
from slipway.content import LocalStore
from slipway.errors import NotFound
from slipway.snapshots import SnapshotStore

_LEASE = timedelta(hours=12)
_MAX_DOCKERFILE = 16 * 1024 * 1024


@dataclass(slots=True)
class Solver:
    """Shared by all builds of a server: the stores, the cache, and the work in flight."""

    blobs: LocalStore
    snapshots: SnapshotStore
    cache: BuildCache
    cache_mounts: CacheMounts
    remotes: Remotes
    hashes: HashCache = field(default_factory=HashCache)
    copies: Remembered = field(default_factory=Remembered)
    in_flight: InFlight[MadeLayer] = field(default_factory=InFlight)

    async def solve(
        self, request: SolveRequest, images: BaseImages, workers: Workers, reporter: Reporter
    ) -> Solved:
        """Carry out ``request``. Raises ``Invalid``/``NotFound`` for mistakes and ``Failed`` for a failing step.

        The caller holds a lease on what it gets until it references it; ``solve`` takes one for the time it runs.
        """
        with await asyncio.to_thread(Context, request.context) as context:
            build_plan, ignored = await asyncio.to_thread(_read_plan, request, context)
            for warning in build_plan.warnings:
                reporter.warning(warning)
            with self.blobs.lease(f"build {request.build_id}", _LEASE) as lease:
                maker = LayerMaker(self, lease, request.no_cache)
                runner = StageRunner(
                    request, build_plan, Source(context, ignored), images, workers, maker, reporter
                )
                return await runner.run()


def _read_plan(request: SolveRequest, context: Context) -> tuple[BuildPlan, str]:
    """The plan, and the text of the ignore file."""
    text = request.inline.encode() if request.inline is not None else _read(context, request.dockerfile)
    ignored = _ignored(context, request.dockerfile)
    if ignored:
        context.with_excludes(IgnoreFile.parse(ignored))
    made = plan(
        parse(text, request.dockerfile),
        target=request.target,
        build_args=request.args,
        platform=request.platform,
    )
    return made, ignored


def _ignored(context: Context, dockerfile: str) -> str:
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        if context.resolve(name) is not None:
            return _read(context, name).decode(errors="replace")
    return ""


def _read(context: Context, name: str) -> bytes:
    real = context.resolve(name)
    if real is None:
        raise NotFound(
            f"there is no {name!r} in the build context",
            hint="name it with -f, or `dockerfile:` in the Compose file",
        )
    with context.open(real) as handle:
        return handle.read(_MAX_DOCKERFILE)
