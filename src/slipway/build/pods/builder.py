"""A build elsewhere, from the start of its worker to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from slipway.build.base_images import BaseImages
from slipway.build.builders import BuilderRecord, refuse
from slipway.build.cache_images import Imported
from slipway.build.pods.answers import Answers
from slipway.build.pods.contexts import keeps, with_trees
from slipway.build.pods.desk import Desk, Seat, Ticket, WorkerLost, WorkerRefused, WorkerUnpullable
from slipway.build.pods.forms import Job
from slipway.build.pods.image import DOCKER, NODE_SOCKET, TLS
from slipway.build.policy import IN_PLACE
from slipway.build.request import Solved, SolveRequest
from slipway.build.sandbox import Limits
from slipway.build.solve import Reporter, Solver
from slipway.content import BlobLease
from slipway.errors import Exhausted, Failed

T = TypeVar("T")
Wait = Callable[[], Awaitable[None]]
_ATTEMPTS = 4
_REASON_SECONDS = 2.0  # for which a worker that went away may be followed by why
_IN_PLACE = (
    "built in place, as the project's policy allows: a RUN is root on the node, held by capabilities, system calls and "
    "namespaces only, as with Docker"
)
_PULL_HINT = "the nodes must reach this server's registry: see docs/builders.md"
_REFUSED_HINT = (
    "the nodes must allow user namespaces to unprivileged containers; where they cannot, an administrator may allow "
    f"the weaker mode: slipway project build-policy PROJECT --allow {IN_PLACE}"
)


@dataclass(frozen=True, slots=True)
class Daemon:
    """A Docker daemon that builds for a worker. ``name`` is the builder's.

    ``dind``: in a privileged container beside the worker, of ``image`` (empty: ours). ``socket``: the node's, at the
    path ``address``. ``remote``: at ``address``, with ``tls`` (certificates and key by their files' names) if it has
    some.
    """

    name: str
    kind: str
    address: str = ""
    image: str = ""
    tls: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is started for, and where not: ``cluster`` is empty for the project's own.

    ``keeps``: the build has directories to keep (--mount=type=cache). ``daemon``: not the worker itself builds, but a
    Docker daemon beside it or elsewhere. ``in_place``: without a user namespace. ``attempt`` counts the workers that
    this build was given; ``here`` is set while one is at it.
    """

    build_id: str
    project: str
    limits: Limits
    cluster: str = ""
    avoid: frozenset[str] = frozenset()
    keeps: bool = False
    daemon: Daemon | None = None
    in_place: bool = False
    attempt: int = 1
    here: asyncio.Event = field(default_factory=asyncio.Event, compare=False, repr=False)


class NoRoom(Exhausted):
    """There is a quota where the worker would be, and it is used up now."""


class Started(Protocol):
    """A worker that was started and may be on its way still."""

    @property
    def node(self) -> str:
        """The machine it is on, or empty if that is not known (yet)."""
        ...

    async def seat(self) -> Seat:
        """When it has come in. Tells the build's log what it waits for. Raises what is in the way."""
        ...

    async def ended(self) -> None:
        """Returns never; raises ``WorkerLost`` or what else ended the worker from outside."""
        ...


class Launcher(Protocol):
    """Starts workers somewhere. When the block of ``started`` is left, the worker is gone, whatever happened.

    ``started`` raises ``NoRoom`` and does not wait: until there is room others may have their turn.
    """

    def started(
        self, place: Place, desk: Desk, reporter: Reporter
    ) -> AbstractAsyncContextManager[Started]: ...


class PodBuilder:
    """Builds by workers of ``launcher``, which come in at ``desk``."""

    def __init__(self, solver: Solver, desk: Desk, launcher: Launcher) -> None:
        self._solver = solver
        self._desk = desk
        self._launcher = launcher
        self._without: set[tuple[str, str]] = set()  # clusters that were found to have no user namespaces

    async def build(
        self, request: SolveRequest, place: Place, images: BaseImages, imported: Imported, held: BlobLease,
        reporter: Reporter, wait: Wait,
    ) -> Solved:  # fmt: skip
        """Raises what the build raises. One whose worker is lost is started again, elsewhere.

        Where there is no room for a worker ``wait`` returns when it is time to look again.
        """
        if place.daemon is not None:
            refuse(place.daemon.name, request)
        else:
            place = replace(place, keeps=await asyncio.to_thread(keeps, request))
        if IN_PLACE in request.granted and (place.cluster, place.project) in self._without:
            place = replace(place, in_place=True)
            reporter.warning(_IN_PLACE)
        hint, unpullable = "", False
        for attempt in range(1, _ATTEMPTS + 1):
            place = replace(place, attempt=attempt)
            try:
                return await self._attempt(request, place, images, imported, held, reporter, wait)
            except _Lost as lost:
                if isinstance(lost.error, WorkerRefused) and not place.in_place:
                    if IN_PLACE not in request.granted:
                        hint = _REFUSED_HINT
                    else:
                        self._without.add((place.cluster, place.project))
                        if attempt < _ATTEMPTS:
                            place = replace(place, in_place=True)
                            reporter.warning(f"{lost.error.message}; {_IN_PLACE}")
                            continue
                if isinstance(lost.error, WorkerUnpullable):
                    if unpullable:  # elsewhere too, or there is no elsewhere
                        raise Failed(lost.error.message, hint=_PULL_HINT) from lost
                    unpullable = True
                if attempt == _ATTEMPTS:
                    raise Failed(
                        f"{_ATTEMPTS} workers were lost; the last: {lost.error.message}", hint=hint
                    ) from lost
                where = f" on {lost.node}" if lost.node else ""
                reporter.warning(f"{lost.error.message}{where}; the build is started again elsewhere")
                if lost.node:
                    place = replace(place, avoid=place.avoid | {lost.node})
        raise AssertionError("not reached")

    async def _attempt(
        self, request: SolveRequest, place: Place, images: BaseImages, imported: Imported, held: BlobLease,
        reporter: Reporter, wait: Wait,
    ) -> Solved:  # fmt: skip
        place.here.clear()
        worker: Started | None = None
        try:
            async with AsyncExitStack() as stack:
                worker = await self._worker(stack, place, reporter, wait)
                seat = await unless(worker.seat(), worker.ended())
                place.here.set()
                answers = Answers(
                    request, self._solver, images, imported, held, reporter, stack, self._desk.joining
                )
                answers.used = partial(
                    self._desk.beforehand.used, place.project, request.build_id, blobs=self._solver.blobs
                )
                asked = await with_trees(request, answers)
                record = record_of(place.daemon) if place.daemon else None
                job = Job(asked, self._solver.surroundings, place.limits, tuple(request.agents), record)
                return await unless(seat.run(job, answers), worker.ended())
        except WorkerLost as error:
            raise _Lost(error, worker.node if worker else "") from error

    async def _worker(self, stack: AsyncExitStack, place: Place, reporter: Reporter, wait: Wait) -> Started:
        told = False
        while True:
            try:
                return await stack.enter_async_context(self._launcher.started(place, self._desk, reporter))
            except NoRoom as error:
                if not told:
                    reporter.warning(f"waiting: {error.message}")
                told = True
            await wait()


def record_of(daemon: Daemon) -> BuilderRecord:
    """The daemon as the worker reaches it."""
    if daemon.kind == "dind":
        return BuilderRecord(daemon.name, "dind", f"unix://{DOCKER}/docker.sock")
    if daemon.kind == "socket":
        return BuilderRecord(daemon.name, "socket", f"unix://{NODE_SOCKET}")
    return BuilderRecord(daemon.name, "remote", daemon.address, TLS if daemon.tls else "")


class _Lost(Exception):
    def __init__(self, error: WorkerLost, node: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.node = node


async def unless(work: Coroutine[Any, Any, T], ended: Coroutine[Any, Any, None]) -> T:
    """``work``'s result, unless the other raises before.

    What ended a worker (its limit of disk, a node under pressure) is often heard of after the worker is gone: a moment
    is given to it.
    """
    task, watch = asyncio.create_task(work), asyncio.create_task(ended)
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await watch
        elif isinstance(task.exception(), WorkerLost):
            await asyncio.wait({watch}, timeout=_REASON_SECONDS)
            if watch.done():
                await watch
        return await task
    finally:
        for item in (task, watch):
            item.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


@asynccontextmanager
async def admitted(desk: Desk) -> AsyncIterator[Ticket]:
    """A ticket that is withdrawn after the block."""
    ticket = desk.ticket()
    try:
        yield ticket
    finally:
        desk.withdraw(ticket)
