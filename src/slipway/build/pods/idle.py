"""Workers that were started before they are wanted, so that a build begins at once.

Of each kind (a project, a cluster, its limits) that built a while ago some wait; who takes one has another started in
its place. After the time to live nobody waits any more, and nothing runs. Who waits has unpacked already what the last
build of its project stood on (``beforehand``).

They have what nobody else needs: there is a bound for all together, above which whoever waits for longest leaves for
the next, and they leave for a build that finds no room (``give_way``). One that does not come in is given up and tried
again later, less and less often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from slipway.build.pods.builder import Place, unless
from slipway.build.pods.desk import Desk
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from slipway.build.pods.pod import Pod

log = logging.getLogger(__name__)
COMING_SECONDS = 180.0
"""Until when a worker has to come in, with a node that an autoscaler has to start."""
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 160.0
Start = Callable[[Place, Desk], AbstractAsyncContextManager["Pod"]]


@dataclass(frozen=True, slots=True)
class IdleBounds:
    """``count`` workers wait for each kind of build, ``total`` for all; they do for ``seconds``."""

    count: int = 0
    seconds: float = 600.0
    total: int = 20


@dataclass(slots=True, eq=False)
class _Waiting:
    """One worker on its way or, with a ``pod``, here; kept by a task of its own until ``leave`` is set."""

    kind: Place
    pod: Pod | None = None
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    taken: bool = False
    task: asyncio.Task[None] | None = None


class Idle:
    """All that wait. One event loop has it."""

    def __init__(self, bounds: IdleBounds, start: Start) -> None:
        self._bounds = bounds
        self._start = start
        self._waiting: list[_Waiting] = []  # whoever waits for longest is first
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, place: Place) -> AbstractAsyncContextManager[Pod] | None:
        """One that is here for builds of this kind, if there is one; it is gone after the block."""
        if place.avoid:
            return None
        for item in self._of(_kind(place)):
            pod = item.pod
            if pod is not None and not pod.over.done() and not pod.ticket.seat.result().is_lost:
                self._waiting.remove(item)
                item.taken = True
                return _held(item, pod)
        return None

    def wanted(self, place: Place, desk: Desk) -> None:
        """A build of this kind has begun: have others ready for the next."""
        kind = _kind(place)
        for _ in range(min(self._bounds.count, self._bounds.total) - len(self._of(kind))):
            if len(self._waiting) >= self._bounds.total:
                self._dismiss(next(item for item in self._waiting if item.kind != kind))
            item = _Waiting(kind)
            self._waiting.append(item)
            item.task = asyncio.create_task(self._keep(desk, item))
            self._tasks.add(item.task)
            item.task.add_done_callback(self._tasks.discard)

    def give_way(self, cluster: str, project: str = "") -> None:
        """A build finds no room there: whoever waits for longest (of ``project``, if that is said) leaves."""
        for item in self._waiting:
            if item.kind.cluster == cluster and project in ("", item.kind.project):
                self._dismiss(item)
                return

    def _dismiss(self, item: _Waiting) -> None:
        self._waiting.remove(item)
        if item.task is not None:
            item.task.cancel()

    def _of(self, kind: Place) -> list[_Waiting]:
        return [item for item in self._waiting if item.kind == kind]

    async def _keep(self, desk: Desk, item: _Waiting) -> None:
        """Until nobody wants it any more; what ends one is waited for before the next comes."""
        clock = asyncio.get_running_loop().time
        end, pause = clock() + self._bounds.seconds, _FIRST_PAUSE
        try:
            while True:
                try:
                    await self._one(desk, item)
                    return
                except (SlipwayError, TimeoutError) as error:
                    log.info("an idle build worker was lost: %s", str(error) or "it did not come in")
                if item.taken or clock() + pause > end:
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._forget(item)

    async def _one(self, desk: Desk, item: _Waiting) -> None:
        """Raises what ended a worker that nobody has taken, ``TimeoutError`` when it does not come in."""
        async with asyncio.timeout(COMING_SECONDS) as coming, self._start(item.kind, desk) as pod:
            seat = await unless(pod.seat(), pod.ended())
            coming.reschedule(None)
            with desk.beforehand.waits(item.kind.project, seat):
                item.pod = pod
                try:
                    await self._until_over(item, pod)
                finally:
                    item.pod = None  # at once, so that nobody takes one that is being removed

    async def _until_over(self, item: _Waiting, pod: Pod) -> None:
        leave: asyncio.Future[object] = asyncio.ensure_future(item.leave.wait())
        over: asyncio.Future[object] = asyncio.ensure_future(pod.ended())
        try:
            await asyncio.wait(
                {leave, over}, timeout=self._bounds.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if item.taken:
                await leave
            elif over.done():
                await over
            else:
                self._forget(item)
        finally:
            leave.cancel()
            over.cancel()
            await asyncio.gather(over, return_exceptions=True)

    def _forget(self, item: _Waiting) -> None:
        if item in self._waiting:
            self._waiting.remove(item)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def _held(item: _Waiting, pod: Pod) -> AsyncIterator[Pod]:
    try:
        yield pod
    finally:
        item.leave.set()
        if item.task is not None:
            await asyncio.gather(asyncio.shield(item.task), return_exceptions=True)


def _kind(place: Place) -> Place:
    return replace(place, build_id="", avoid=frozenset(), attempt=1)
