"""One move on several clusters: all make it, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace

from slipway.base.progress import Event, Progress
from slipway.delivery.engine import AppRef, Engine, Move
from slipway.delivery.rollout import first_error
from slipway.errors import Failed


class Vote:
    """Each of ``names`` arrives when all of it is up there. The last one records, and only then any goes on."""

    def __init__(self, names: Collection[str], record: Callable[[], Awaitable[None]]) -> None:
        self._missing = set(names)
        self._up = {name: asyncio.Event() for name in names}
        self._record = record
        self._decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def arrive(self, name: str) -> None:
        """Returns when it is recorded that everything has taken over. Raises when it will not be."""
        self._missing.discard(name)
        self._up[name].set()
        if not self._missing and not self._decided.done():
            try:
                await self._record()
            except BaseException as error:
                self._refuse(error)
                raise
            if not self._decided.done():
                self._decided.set_result(None)
        await asyncio.shield(self._decided)

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


async def roll_out_on_all(
    app: AppRef, engines: Mapping[str, Engine], moves: Mapping[str, Move], first: str,
    record: Callable[[], Awaitable[None]], progress: Progress,
) -> None:  # fmt: skip
    """``moves`` by cluster. ``first``: whose jobs the others' services wait for, if any.

    Raises the first error, after every cluster is back at what it had.
    """
    vote = Vote(moves, record)

    async def one(name: str) -> None:
        arrived = False

        async def taken_over() -> None:
            nonlocal arrived
            await vote.arrive(name)
            arrived = True

        try:
            if first and name != first:
                await vote.up(first)
            move = replace(moves[name], taken_over=taken_over)
            await engines[name].roll_out(app, move, told(name, progress) if len(moves) > 1 else progress)
        finally:
            if not arrived:
                vote.leave(name)

    try:
        async with asyncio.TaskGroup() as group:
            for name in moves:
                group.create_task(one(name))
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None


def told(cluster: str, progress: Progress) -> Progress:
    """Events that say on which cluster it is."""

    def tell(event: Event) -> None:
        progress({**event, "cluster": cluster})

    return tell
