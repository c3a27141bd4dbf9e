"""A build elsewhere, from the start of its worker to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from slipway.build.base_images import BaseImages
from slipway.build.cache_images import Imported
from slipway.build.context import Context
from slipway.build.devices import GRANT
from slipway.build.pods.answers import Answers
from slipway.build.pods.desk import Desk, Seat, Ticket, WorkerLost
from slipway.build.pods.forms import Job, tree_name
from slipway.build.request import Solved, SolveRequest
from slipway.build.sandbox import Limits
from slipway.build.solve import Reporter, Solver
from slipway.content import BlobLease
from slipway.errors import Failed, Unsupported

T = TypeVar("T")
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is started for, and where not: ``cluster`` is empty for the project's own."""

    build_id: str
    project: str
    limits: Limits
    cluster: str = ""
    avoid: frozenset[str] = frozenset()


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
    """Starts workers somewhere. When the block of ``started`` is left, the worker is gone, whatever happened."""

    def started(
        self, place: Place, desk: Desk, reporter: Reporter
    ) -> AbstractAsyncContextManager[Started]: ...


class PodBuilder:
    """Builds by workers of ``launcher``, which come in at ``desk``."""

    def __init__(self, solver: Solver, desk: Desk, launcher: Launcher) -> None:
        self._solver = solver
        self._desk = desk
        self._launcher = launcher

    async def build(
        self, request: SolveRequest, place: Place, images: BaseImages, imported: Imported, held: BlobLease,
        reporter: Reporter,
    ) -> Solved:  # fmt: skip
        """Raises what the build raises. One whose worker is lost is started again, elsewhere."""
        if request.agents:
            raise Unsupported(
                "an SSH agent cannot be reached from a Pod", hint="use a secret: --mount=type=secret"
            )
        # Devices were granted of this machine, which is not where the step will run.
        granted = frozenset(item for item in request.granted if not item.startswith(GRANT))
        request = replace(request, granted=granted)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._attempt(request, place, images, imported, held, reporter)
            except _Lost as lost:
                if attempt == _ATTEMPTS:
                    raise Failed(f"{_ATTEMPTS} workers were lost; the last: {lost.error.message}") from lost
                where = f" on {lost.node}" if lost.node else ""
                reporter.warning(f"{lost.error.message}{where}; the build is started again elsewhere")
                if lost.node:
                    place = replace(place, avoid=place.avoid | {lost.node})
        raise AssertionError("not reached")

    async def _attempt(
        self, request: SolveRequest, place: Place, images: BaseImages, imported: Imported, held: BlobLease,
        reporter: Reporter,
    ) -> Solved:  # fmt: skip
        async with AsyncExitStack() as stack:
            worker = await stack.enter_async_context(self._launcher.started(place, self._desk, reporter))
            try:
                seat = await _unless(worker.seat(), worker.ended())
                answers = Answers(request, self._solver, images, imported, held, reporter, stack)
                asked = await _with_trees(request, answers)
                job = Job(asked, self._solver.surroundings, place.limits)
                return await _unless(seat.run(job, answers), worker.ended())
            except WorkerLost as error:
                raise _Lost(error, worker.node) from error


class _Lost(Exception):
    def __init__(self, error: WorkerLost, node: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.node = node


async def _with_trees(request: SolveRequest, answers: Answers) -> SolveRequest:
    """The request with its directories as trees that the worker asks for."""
    context = await asyncio.to_thread(Context, request.context)
    main = tree_name(answers.add_tree(context))
    contexts = {
        name: tree_name(answers.add_tree(await asyncio.to_thread(Context, value), name))
        if isinstance(value, Path)
        else value
        for name, value in request.contexts.items()
    }
    return replace(request, context=main, contexts=contexts)


async def _unless(work: Coroutine[Any, Any, T], ended: Coroutine[Any, Any, None]) -> T:
    """``work``'s result, unless the other raises before."""
    task, watch = asyncio.create_task(work), asyncio.create_task(ended)
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
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
