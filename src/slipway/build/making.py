"""How an image is made of a build job: by a worker here, in a Pod or by a daemon; then it is stored and attested."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from slipway import __version__
from slipway.base.clock import iso, now
from slipway.base.progress import Progress
from slipway.build.attest import Provenance
from slipway.build.attest.attestor import Attestor
from slipway.build.base_images import Images
from slipway.build.builders import BuilderRecord, ForeignBuilder
from slipway.build.cache_images import Imported
from slipway.build.pods.builder import Place, PodBuilder, Wait
from slipway.build.pods.daemons import daemon_of
from slipway.build.queue import Slot, without_clock
from slipway.build.request import Built, Solved, SolveRequest
from slipway.build.sandbox import Limits, Sandbox, Sandboxes
from slipway.build.solve import Reporter, Solver
from slipway.build.solve.exporting import exported
from slipway.build.solve.workers import Workers
from slipway.content import BlobLease, holding
from slipway.errors import Exhausted, NotFound, SlipwayError, Unavailable, Unsupported
from slipway.oci import Descriptor, ImageConfig

_LEASE = timedelta(hours=12)


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

    @property
    def in_pod(self) -> bool:
        return self.builder is not None and self.builder.in_pod


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


class Making:
    """Without ``sandboxes`` there are no workers here, without ``pods`` none elsewhere. ``mark`` is the server's."""

    def __init__(
        self, solver: Solver, sandboxes: Sandboxes | None, images: ImageStore, attestor: Attestor,
        pods: PodBuilder | None, mark: str,
    ) -> None:  # fmt: skip
        self._solver = solver
        self._sandboxes = sandboxes
        self._images = images
        self._attestor = attestor
        self._pods = pods
        self._mark = mark

    async def make(
        self, build_id: str, request: JobRequest, limits: Limits, granted: Collection[str], images: Images,
        progress: Progress, slot: Slot,
    ) -> Built:  # fmt: skip
        """Build and store. Raises what went wrong, ``Exhausted`` above the limit of time."""
        began = now()
        reporter = Reporter(build_id, request.service, progress)
        line = f"{request.repository} {request.solve.target or ''} {request.solve.platform}"
        wanted = replace(
            request.solve, build_id=build_id, project=request.project, line=line, granted=frozenset(granted)
        )
        here = asyncio.Event()  # a worker is; one of our own needs no time for it
        if not request.in_pod:
            here.set()
        async with AsyncExitStack() as stack:
            blobs = self._solver.blobs
            held = await stack.enter_async_context(holding(blobs, f"made {build_id}", ttl=_LEASE))
            try:
                async with asyncio.timeout(limits.seconds) as clock:
                    if request.builder is not None and request.in_pod:
                        wait = partial(without_clock, slot, clock)
                        solved = await self._in_pod(
                            wanted, request.builder, limits, images, held, reporter, wait, here
                        )
                        slot.leave()  # the Pod is gone
                    elif request.builder is not None:
                        builder = ForeignBuilder(request.builder, blobs, self._mark)
                        solved = await builder.build(wanted, limits, held, reporter)
                    else:
                        solved = await self._solved(wanted, limits, images, reporter, stack)
            except TimeoutError as error:
                raise _too_late(limits, here.is_set()) from error
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
        reporter: Reporter, wait: Wait, here: asyncio.Event,
    ) -> Solved:  # fmt: skip
        if self._pods is None:
            raise Unsupported("this server starts no Pods")
        imported = await _imported(wanted, images, reporter)
        daemon = await asyncio.to_thread(daemon_of, builder)
        place = Place(wanted.build_id, wanted.project, limits, builder.cluster, daemon=daemon, here=here)
        return await self._pods.build(wanted, place, images, imported, held, reporter, wait)


def _too_late(limits: Limits, was_here: bool) -> SlipwayError:
    if was_here:
        return Exhausted(f"the build took longer than {limits.seconds:g} s", hint="raise build.seconds")
    return Unavailable(
        f"no worker came in within the {limits.seconds:g} s that the build has",
        hint="its log says what was waited for",
    )


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
