"""Who builds next. Fair between projects: whoever has the fewest builds running goes first."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ticket:
    """One waiting build. ``limit`` is how many of its project may run at once; 0 is no limit."""

    number: int
    project: str
    priority: int = 0
    limit: int = 0


def first_of(waiting: Sequence[Ticket], running: Mapping[str, int]) -> Ticket | None:
    """The next to run: of the highest priority, then of the project with the fewest running, then the oldest.

    ``None`` when all that wait have as many running as their projects may.
    """
    able = [item for item in waiting if not item.limit or running.get(item.project, 0) < item.limit]
    return min(
        able, key=lambda item: (-item.priority, running.get(item.project, 0), item.number), default=None
    )


@dataclass(slots=True)
class FairQueue:
    """At most ``parallel`` slots in use. One event loop has it."""

    parallel: int
    _running: Counter[str] = field(default_factory=Counter)
    _waiting: dict[Ticket, asyncio.Event] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def slot(
        self, project: str, priority: int = 0, limit: int = 0, waits: Callable[[int], None] | None = None
    ) -> AsyncIterator[None]:
        """A slot for the length of the block. ``waits`` is told how many waited before, if it is not free at once."""
        ticket = Ticket(next(self._numbers), project, priority, limit)
        turn = self._waiting[ticket] = asyncio.Event()
        self._admit()
        if not turn.is_set():
            if waits is not None:
                waits(len(self._waiting) - 1)
            try:
                await turn.wait()
            except asyncio.CancelledError:
                if turn.is_set():  # it came at the very moment of the cancellation
                    self._leave(project)
                self._waiting.pop(ticket, None)
                raise
        try:
            yield
        finally:
            self._leave(project)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def _leave(self, project: str) -> None:
        self._running[project] -= 1
        self._running += Counter()  # forgets those that have none
        self._admit()

    def _admit(self) -> None:
        while self._running.total() < self.parallel:
            ticket = first_of(list(self._waiting), self._running)
            if ticket is None:
                return
            self._running[ticket.project] += 1
            self._waiting.pop(ticket).set()
