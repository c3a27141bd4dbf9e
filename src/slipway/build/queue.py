"""Who builds next. Fair between projects: whoever has the fewest builds running goes first.

A build that has its turn may find that there is no room where it would run, by a quota that the queue does not know of.
It gives its slot back and waits again (``Slot.again``), and with it all that would run at the same place; of these one
has its turn now and then, and whenever another of them has ended, to see whether there is room by now.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Room = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ticket:
    """One waiting build. ``limit`` is how many of its project may run at once; 0 is no limit.

    ``place`` is where it would run, as far as that matters: what is full for one of a project is for its others there.
    """

    number: int
    project: str
    priority: int = 0
    limit: int = 0
    place: str = ""

    @property
    def room(self) -> Room:
        return self.project, self.place


def first_of(
    waiting: Sequence[Ticket], running: Mapping[str, int], full: Collection[Room] = ()
) -> Ticket | None:
    """The next to run: of the highest priority, then of the project with the fewest running, then the oldest.

    ``None`` when all that wait have as many running as their projects may, or no room.
    """
    able = [
        item
        for item in waiting
        if item.room not in full and (not item.limit or running.get(item.project, 0) < item.limit)
    ]
    return min(
        able, key=lambda item: (-item.priority, running.get(item.project, 0), item.number), default=None
    )


@dataclass(slots=True)
class FairQueue:
    """At most ``parallel`` slots in use. One event loop has it. After ``again`` seconds one looks for room again."""

    parallel: int
    again: float = 3.0
    _running: Counter[str] = field(default_factory=Counter)
    _waiting: dict[Ticket, asyncio.Event] = field(default_factory=dict)
    _full: dict[Room, bool] = field(default_factory=dict)  # whether one of those that wait may look again
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def slot(
        self, project: str, priority: int = 0, limit: int = 0, waits: Callable[[int], None] | None = None,
        place: str = "",
    ) -> AsyncIterator[Slot]:  # fmt: skip
        """A slot for the length of the block. ``waits`` is told how many waited before, if it is not free at once."""
        ticket = Ticket(next(self._numbers), project, priority, limit, place)
        await self._turn(ticket, waits)
        slot = Slot(self, ticket)
        try:
            yield slot
        finally:
            slot.leave()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def _turn(self, ticket: Ticket, waits: Callable[[int], None] | None = None) -> None:
        turn = self._waiting[ticket] = asyncio.Event()
        self._admit()
        if turn.is_set():
            return
        if waits is not None:
            waits(len(self._waiting) - 1)
        try:
            await turn.wait()
        except asyncio.CancelledError:
            if turn.is_set():  # it came at the very moment of the cancellation
                self._leave(ticket)
            self._waiting.pop(ticket, None)
            raise

    def _leave(self, ticket: Ticket) -> None:
        if ticket.room in self._full:
            self._full[ticket.room] = True
        self._free(ticket)

    def _refused(self, ticket: Ticket) -> None:
        if ticket.room not in self._full:
            asyncio.get_running_loop().call_later(self.again, self._look_again, ticket.room)
        self._full[ticket.room] = False
        self._free(ticket)

    def _free(self, ticket: Ticket) -> None:
        self._running[ticket.project] -= 1
        self._running += Counter()  # forgets those that have none
        self._admit()

    def _look_again(self, room: Room) -> None:
        if not any(item.room == room for item in self._waiting):
            del self._full[room]
            return
        asyncio.get_running_loop().call_later(self.again, self._look_again, room)
        self._full[room] = True
        self._admit()

    def _admit(self) -> None:
        while self._running.total() < self.parallel:
            full = {room for room, may_look in self._full.items() if not may_look}
            ticket = first_of(list(self._waiting), self._running, full)
            if ticket is None:
                return
            if ticket.room in self._full:
                self._full[ticket.room] = False
            self._running[ticket.project] += 1
            self._waiting.pop(ticket).set()


@dataclass(slots=True)
class Slot:
    """What a build holds while it runs."""

    _queue: FairQueue
    _ticket: Ticket
    held: bool = True

    def leave(self) -> None:
        """Others may have it: what is left to do takes none of the room that there is a queue for. Idempotent."""
        if self.held:
            self.held = False
            self._queue._leave(self._ticket)

    async def again(self) -> None:
        """There was no room: give it back, and return when it is this build's turn again. It keeps its age."""
        self.held = False
        self._queue._refused(self._ticket)
        await self._queue._turn(self._ticket)
        self.held = True


async def without_clock(slot: Slot, clock: asyncio.Timeout) -> None:
    """``slot.again``, while the build's time stands still."""
    loop = asyncio.get_running_loop()
    end = clock.when()
    left = None if end is None else end - loop.time()
    clock.reschedule(None)
    await slot.again()
    if left is not None:
        clock.reschedule(loop.time() + left)
