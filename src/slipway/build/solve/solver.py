"""The solver: from a request to layers and a configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from slipway.build.attest import Inventories
from slipway.build.base_images import BaseImages
from slipway.build.cache_images import Imported
from slipway.build.cache_mounts import CacheMounts
from slipway.build.context import Context
from slipway.build.copy import HashCache, Remembered
from slipway.build.devices import Devices, devices_for
from slipway.build.dockerfile import DeviceRequest, Dockerfile, parse
from slipway.build.explain import Traces
from slipway.build.ignore import IgnoreFile
from slipway.build.lint import Finding, Subject, lint, refuse
from slipway.build.listing import Listing
from slipway.build.made import Results
from slipway.build.plan import BuildPlan, plan
from slipway.build.remote import Fetching
from slipway.build.request import Solved, SolveRequest
from slipway.build.solve.inflight import InFlight
from slipway.build.solve.later import Later
from slipway.build.solve.layers import LayerMaker, MadeLayer
from slipway.build.solve.report import Reporter
from slipway.build.solve.source import Source
from slipway.build.solve.stage import StageRunner
from slipway.build.solve.workers import Workers
from slipway.build.surroundings import Surroundings
from slipway.build.tree import OpenContext
from slipway.content import ContentStore, holding
from slipway.errors import NotFound
from slipway.oci import Reference
from slipway.snapshots import SnapshotStore

_LEASE = timedelta(hours=12)
_MAX_DOCKERFILE = 16 * 1024 * 1024


async def given_secret(request: SolveRequest, name: str) -> bytes | None:
    """A secret that is in the request itself."""
    return request.secrets.get(name)


@dataclass(slots=True)
class Solver:
    """Shared by all builds of a server: the stores, the cache, and the work in flight.

    ``opening`` makes a context of what a request calls one, ``secret_of`` finds a secret when a step is about to run
    that mounts it, ``devices`` what a step has asked for with --device.
    """

    blobs: ContentStore
    snapshots: SnapshotStore
    cache: Results
    cache_mounts: CacheMounts
    remotes: Fetching
    traces: Traces
    sockets: Path
    inventories: Inventories
    surroundings: Surroundings = field(default_factory=Surroundings)
    hashes: HashCache = field(default_factory=HashCache)
    copies: Remembered = field(default_factory=Remembered)
    in_flight: InFlight[MadeLayer] = field(default_factory=InFlight)
    later: Later = field(default_factory=Later)
    opening: Callable[[Path], OpenContext] = Context
    secret_of: Callable[[SolveRequest, str], Awaitable[bytes | None]] = given_secret
    devices: Callable[[Sequence[DeviceRequest], Iterable[str]], Devices] = devices_for

    async def solve(
        self, request: SolveRequest, images: BaseImages, workers: Workers, reporter: Reporter,
        imported: Imported | None = None,
    ) -> Solved:  # fmt: skip
        """Carry out ``request``. Raises ``Invalid``/``NotFound`` for mistakes and ``Failed`` for a failing step.

        The caller holds a lease on what it gets until it references it; ``solve`` takes one for the time it runs.
        """
        async with AsyncExitStack() as stack:
            context = stack.enter_context(closing(await asyncio.to_thread(self.opening, request.context)))
            contexts = {}
            for name, path in request.contexts.items():
                if isinstance(path, Path):
                    given = stack.enter_context(closing(await asyncio.to_thread(self.opening, path)))
                    contexts[name.lower()] = await asyncio.to_thread(_named, given)
            build_plan, ignored, findings = await asyncio.to_thread(_read_plan, request, context)
            contexts[""] = Source(context, ignored)
            for warning in build_plan.warnings:
                reporter.warning(warning)
            for finding in findings:
                reporter.finding(finding)
            lease = await stack.enter_async_context(
                holding(self.blobs, f"build {request.build_id}", ttl=_LEASE)
            )
            maker = LayerMaker(self, lease, request.no_cache, request.epoch, imported or Imported())
            trace = self.traces.of(request.line)
            stages = StageRunner(request, build_plan, contexts, images, workers, maker, reporter, trace)
            try:
                return await stages.run()
            finally:
                self.later.release(stages.ahead)
                if trace.missed_any and request.line:
                    await asyncio.to_thread(self.traces.save, request.line, trace)

    def check(self, request: SolveRequest) -> list[Finding]:
        """The build checks alone: nothing is built. Raises ``Invalid`` for mistakes. Blocks."""
        with closing(self.opening(request.context)) as context:
            dockerfile, ignored = _read_file(request, context)
            return lint(_subject(request, dockerfile, ignored))


def _read_plan(request: SolveRequest, context: OpenContext) -> tuple[BuildPlan, str, list[Finding]]:
    """The plan, the text of the ignore file, and what the build checks find, unless that forbids the build."""
    dockerfile, ignored = _read_file(request, context)
    if ignored:
        context.with_excludes(IgnoreFile.parse(ignored))
    contexts = {
        name.lower(): value if isinstance(value, Reference) else None
        for name, value in request.contexts.items()
    }
    made = plan(
        dockerfile,
        target=request.target,
        build_args=request.args,
        platform=request.platform,
        contexts=contexts,
    )
    findings = lint(_subject(request, dockerfile, ignored))
    if dockerfile.directives.check.error:
        refuse(findings)
    return made, ignored, findings


def _subject(request: SolveRequest, dockerfile: Dockerfile, ignored: str) -> Subject:
    excludes = IgnoreFile.parse(ignored) if ignored else None
    return Subject(dockerfile, request.args, request.platform, excludes)


def _read_file(request: SolveRequest, context: OpenContext) -> tuple[Dockerfile, str]:
    """The parsed Dockerfile, and the text of the ignore file that goes with it."""
    text = request.inline.encode() if request.inline is not None else _read(context, request.dockerfile)
    ignored = _ignored(context, request.dockerfile)
    return parse(text, request.dockerfile), _with_git(request, ignored)


def _with_git(request: SolveRequest, ignored: str) -> str:
    return f"{ignored}\n/.git\n" if request.from_git else ignored


def listed(request: SolveRequest, name: str, context: Context, hashes: HashCache) -> Listing:
    """What a worker elsewhere has to know of the build's own context, or of a further one by this ``name``. Blocks."""
    dockerfile = "" if name else request.dockerfile
    names = {f"{dockerfile}.dockerignore", ".dockerignore"}
    if not name and request.inline is None:
        names.add(dockerfile)
    documents = {item: _read(context, item) for item in sorted(names) if context.resolve(item) is not None}
    ignored = _ignored(context, dockerfile)
    if not name:
        ignored = _with_git(request, ignored)
    if ignored:
        context.with_excludes(IgnoreFile.parse(ignored))
    return Listing(context, hashes, documents)


def _named(context: OpenContext) -> Source:
    """A further context, with an ignore file of its own."""
    ignored = _ignored(context, "")
    if ignored:
        context.with_excludes(IgnoreFile.parse(ignored))
    return Source(context, ignored)


def _ignored(context: OpenContext, dockerfile: str) -> str:
    for name in dict.fromkeys((f"{dockerfile}.dockerignore", ".dockerignore")):
        if context.resolve(name) is not None:
            return _read(context, name).decode(errors="replace")
    return ""


def _read(context: OpenContext, name: str) -> bytes:
    real = context.resolve(name)
    if real is None:
        raise NotFound(
            f"there is no {name!r} in the build context",
            hint="name it with -f, or `dockerfile:` in the Compose file",
        )
    with context.open(real) as handle:
        return handle.read(_MAX_DOCKERFILE)
