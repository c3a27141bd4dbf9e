"""Layers that nobody waits for: of stages that are only copied from.

Such a stage's last RUN is finished when its process is: a COPY reads its upper directory as it is. The layer, which
the cache wants and the image does not, is written a moment after the build's end, or at once if somebody asks for it.
Until then it has no name (that is made of its content), and nothing that needs one, like a FROM, is built on it. A
kill before its turn leaves nothing, so that the step runs again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from slipway.errors import SlipwayError
from slipway.snapshots import Active

log = logging.getLogger(__name__)
_REST = 1.0


class Ahead:
    """One finished step whose layer is still to be written."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.ran: asyncio.Future[Active] = asyncio.get_running_loop().create_future()
        self._readers = 0
        self._unread = asyncio.Event()
        self._unread.set()
        self._over = False

    @property
    def active(self) -> Active | None:
        """What can be read instead of a snapshot; ``None`` when it is becoming one, or there is none."""
        nothing = self._over or not self.ran.done() or self.ran.cancelled()
        return None if nothing else self.ran.result()

    async def turn(self, active: Active) -> None:
        """Called when the step's process has ended well: returns when the layer is to be written."""
        self.ran.set_result(active)
        await self.wanted.wait()
        self._over = True
        await self._unread.wait()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Active | None]:
        """The directory stays where it is while the block runs."""
        active = self.active
        if active is None:
            yield None
            return
        self._readers += 1
        self._unread.clear()
        try:
            yield active
        finally:
            self._readers -= 1
            if not self._readers:
                self._unread.set()


class Later:
    """The layers that are still to be written, of all builds of a server."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], Ahead] = {}

    def begin(
        self, ahead: Ahead, work: Coroutine[Any, Any, Any], failed: Callable[[str], None]
    ) -> asyncio.Task[Any]:
        """Run ``work``, which calls ``ahead.turn``. ``failed`` is told if the layer is lost after the step was done."""
        task = asyncio.create_task(work)
        self._tasks[task] = ahead

        def ended(task: asyncio.Task[Any]) -> None:
            del self._tasks[task]
            if not ahead.ran.done():
                ahead.ran.cancel()  # whoever began it sees what went wrong
            elif task.cancelled():
                log.info("a step's layer was not written before the server's end; it will run again")
            elif (error := task.exception()) is not None:
                text = str(error) if isinstance(error, SlipwayError) else f"{type(error).__name__}: {error}"
                log.warning("a step's layer could not be kept, it will run again: %s", text)
                failed(f"the result of a step could not be kept, so it will run again next time: {text}")

        task.add_done_callback(ended)
        return task

    def release(self, aheads: list[Ahead]) -> None:
        """A build has ended: its layers are written when its result is on its way."""
        loop = asyncio.get_running_loop()
        for ahead in aheads:
            loop.call_later(_REST, ahead.wanted.set)

    async def settle(self) -> None:
        """Write all of them now; for those who look at what is there afterwards."""
        for ahead in self._tasks.values():
            ahead.wanted.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Give up what is not written: its steps run again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
