"""Workers that were started before they are wanted, so that a build begins at once.

Of each kind (a project, a cluster, its limits) that built a while ago some wait; who takes one has another started in
its place. After the time to live nobody waits any more, and nothing runs. Who waits has unpacked already what the last
build of its project stood on (``beforehand``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from slipway.build.pods.builder import Place
from slipway.build.pods.desk import Desk
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from slipway.build.pods.pod import Pod

log = logging.getLogger(__name__)
Start = Callable[[Place, Desk], AbstractAsyncContextManager["Pod"]]


@dataclass(frozen=True, slots=True)
class IdleBounds:
    """``count`` workers wait for each kind of build; they do for ``seconds``."""

    count: int = 0
    seconds: float = 600.0


@dataclass(slots=True)
class _Waiting:
    """One worker on its way or here, kept by a task of its own until ``leave`` is set."""

    here: asyncio.Future[Pod]
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    taken: bool = False
    task: asyncio.Task[None] | None = None


class Idle:
    """All that wait. One event loop has it."""

    def __init__(self, bounds: IdleBounds, start: Start) -> None:
        self._bounds = bounds
        self._start = start
        self._waiting: dict[Place, list[_Waiting]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, place: Place) -> AbstractAsyncContextManager[Pod] | None:
        """One that is here for builds of this kind, if there is one; it is gone after the block."""
        if place.avoid:
            return None
        for item in self._waiting[_kind(place)]:
            if item.here.done() and not item.here.cancelled() and item.here.exception() is None:
                pod = item.here.result()
                if not pod.over.done() and pod.ticket.seat.done() and not pod.ticket.seat.result().is_lost:
                    self._waiting[_kind(place)].remove(item)
                    item.taken = True
                    return _held(item)
        return None

    def wanted(self, place: Place, desk: Desk) -> None:
        """A build of this kind has begun: have others ready for the next."""
        kind = _kind(place)
        while len(self._waiting[kind]) < self._bounds.count:
            item = _Waiting(asyncio.get_running_loop().create_future())
            self._waiting[kind].append(item)
            item.task = asyncio.create_task(self._keep(kind, desk, item))
            self._tasks.add(item.task)
            item.task.add_done_callback(self._tasks.discard)

    async def _keep(self, kind: Place, desk: Desk, item: _Waiting) -> None:
        try:
            async with self._start(kind, desk) as pod:
                with desk.beforehand.waits(kind.project, await pod.seat()):
                    item.here.set_result(pod)
                    await self._until_over(item, pod)
        except SlipwayError as error:
            log.info("an idle build worker was lost: %s", error)
        finally:
            self._forget(item)
            if not item.here.done():
                item.here.cancel()

    async def _until_over(self, item: _Waiting, pod: Pod) -> None:
        leave: asyncio.Future[object] = asyncio.ensure_future(item.leave.wait())
        over: asyncio.Future[object] = asyncio.ensure_future(pod.ended())
        try:
            await asyncio.wait(
                {leave, over}, timeout=self._bounds.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if item.taken:
                await leave
        finally:
            self._forget(item)  # at once, so that nobody takes one that is being removed
            leave.cancel()
            over.cancel()
            await asyncio.gather(over, return_exceptions=True)

    def _forget(self, item: _Waiting) -> None:
        for items in self._waiting.values():
            if item in items:
                items.remove(item)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def _held(item: _Waiting) -> AsyncIterator[Pod]:
    try:
        yield item.here.result()
    finally:
        item.leave.set()
        if item.task is not None:
            await asyncio.gather(asyncio.shield(item.task), return_exceptions=True)


def _kind(place: Place) -> Place:
    return replace(place, build_id="", avoid=frozenset(), attempt=1)
