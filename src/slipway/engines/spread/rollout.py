"""One move on several clusters: all that are there make it, or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace

from slipway.base.progress import Event, Progress
from slipway.base.tasks import first_error
from slipway.delivery.engine import AppRef, Engine, Move
from slipway.errors import Failed, SlipwayError, Unavailable

log = logging.getLogger(__name__)
Record = Callable[[frozenset[str]], Awaitable[None]]
"""Of the clusters that the move goes on without."""


class Vote:
    """Each of ``names`` arrives when all of it is up there. The last one records, and only then any goes on."""

    def __init__(self, names: Collection[str], record: Record) -> None:
        self._names = frozenset(names)
        self._missing = set(names)
        self._without: frozenset[str] = frozenset()
        self._up = {name: asyncio.Event() for name in names}
        self._record = record
        self._decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def arrive(self, name: str) -> None:
        """Returns when it is recorded that everything has taken over. Raises when it will not be."""
        self._missing.discard(name)
        self._up[name].set()
        await self._decide()
        await asyncio.shield(self._decided)

    async def go_without(self, name: str) -> bool:
        """``name`` has failed and is not waited for any more; false if there is no other. Raises as ``arrive``."""
        if self.decided or self._without | {name} == self._names:
            return False
        self._missing.discard(name)
        self._without |= {name}
        await self._decide()
        return True

    @property
    def decided(self) -> bool:
        return self._decided.done()

    async def _decide(self) -> None:
        if self._missing or self.decided:
            return
        try:
            await self._record(self._without)
        except BaseException as error:
            self._refuse(error)
            raise
        if not self._decided.done():
            self._decided.set_result(None)

    def leave(self, name: str) -> None:
        """It will not come: who waits for it goes back to what was before."""
        self._refuse(Failed(f"the release did not come up on the cluster {name}"))

    def _refuse(self, error: BaseException) -> None:
        if not self._decided.done():
            self._decided.set_exception(
                error if isinstance(error, Exception) else Failed("it was interrupted")
            )
            self._decided.exception()  # looked at: there may be nobody who waits

    async def up(self, name: str) -> None:
        """Until ``name`` is up. Raises when it was decided before that nothing will be."""
        waiting = asyncio.ensure_future(self._up[name].wait())
        try:
            await asyncio.wait((waiting, self._decided), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._up[name].is_set():
            await asyncio.shield(self._decided)


@dataclass(frozen=True, slots=True)
class RolloutOnAll:
    """``moves`` by cluster. ``first``: whose jobs the others' services wait for, if any.

    ``has_failed``: whether a cluster counts as failed after what it just did; it takes its time to say so. The others
    go on without one that has, and ``record`` is told: what is there is brought to the release when it is back.
    """

    app: AppRef
    engines: Mapping[str, Engine]
    moves: Mapping[str, Move]
    first: str
    record: Record
    has_failed: Callable[[str], Awaitable[bool]]
    progress: Progress

    async def run(self) -> None:
        """Raises the first error, after every cluster that answers is back at what it had."""
        vote = Vote(self.moves, self.record)
        try:
            async with asyncio.TaskGroup() as group:
                for name in self.moves:
                    group.create_task(self._one(name, vote))
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None

    async def _one(self, name: str, vote: Vote) -> None:
        counts = True

        async def taken_over() -> None:
            nonlocal counts
            await vote.arrive(name)
            counts = False

        try:
            if self.first and name != self.first:
                await vote.up(self.first)
            move = replace(self.moves[name], taken_over=taken_over)
            progress = told(name, self.progress) if len(self.moves) > 1 else self.progress
            try:
                await self.engines[name].roll_out(self.app, move, progress)
            except SlipwayError as error:
                if not counts or vote.decided:
                    raise
                await self._go_without(name, vote, error)
                counts = False
        finally:
            if counts:
                vote.leave(name)

    async def _go_without(self, name: str, vote: Vote, error: SlipwayError) -> None:
        """Raises ``error``, saying where it was, when it is not the cluster that failed or nobody else can go on."""
        jobs = name == self.first
        failed = len(self.moves) > 1 and not jobs and await self.has_failed(name)
        if failed and await vote.go_without(name):
            text = (
                f"the cluster {name} has failed ({error.message}): the release goes on without it, the others take its "
                "share, and it gets the release when it is back"
            )
            log.warning("%s: %s", self.app, text)
            told(name, self.progress)({"event": "warning", "text": text})
            return
        if not failed and not isinstance(error, Unavailable):
            raise error
        where = f"the cluster {name}, where its jobs run," if jobs else f"the cluster {name}"
        hint = "the release before stays in service" if self.moves[name].before is not None else error.hint
        raise Unavailable(
            f"{where} did not answer in the middle of it: {error.message}", hint=hint, cluster=name
        ) from error


def told(cluster: str, progress: Progress) -> Progress:
    """Events that say on which cluster it is."""

    def tell(event: Event) -> None:
        progress({**event, "cluster": cluster})

    return tell
