"""Who builds next."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.queue import FairQueue, Ticket, first_of


def test_the_project_with_fewer_running_goes_first() -> None:
    waiting = [Ticket(0, "big"), Ticket(1, "big"), Ticket(2, "small")]
    assert first_of(waiting, {"big": 1}) == Ticket(2, "small")
    assert first_of(waiting, {}) == Ticket(0, "big")


def test_priority_beats_fairness_and_a_limit_beats_both() -> None:
    urgent = Ticket(5, "big", priority=1, limit=2)
    assert first_of([Ticket(0, "small"), urgent], {"big": 1}) == urgent
    assert first_of([Ticket(0, "small"), urgent], {"big": 2}) == Ticket(0, "small")
    assert first_of([urgent], {"big": 2}) is None


async def test_one_project_cannot_keep_another_out() -> None:
    queue, order = FairQueue(1), []
    release = asyncio.Event()

    async def build(project: str) -> None:
        async with queue.slot(project):
            order.append(project)
            await release.wait()

    first = asyncio.create_task(build("big"))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(build(name)) for name in ("big", "big", "big", "small")]
    await asyncio.sleep(0)
    assert queue.waiting == 4
    release.set()
    await asyncio.gather(first, *rest)
    assert order == ["big", "big", "big", "big", "small"] or order.index("small") == 1
    assert queue.waiting == 0


async def test_two_slots_are_shared_evenly() -> None:
    queue = FairQueue(2)
    most: Counter[str] = Counter()
    now: Counter[str] = Counter()

    async def build(project: str) -> None:
        async with queue.slot(project):
            now[project] += 1
            most[project] = max(most[project], now[project])
            await asyncio.sleep(0.001)
            now[project] -= 1

    # Both have plenty waiting: after the first moment each holds one of the two.
    await asyncio.gather(*(build(name) for name in ["a", "b"] * 20))
    assert most == {"a": 1, "b": 1}


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    queue = FairQueue(1)
    told: list[int] = []
    async with queue.slot("p"):
        waiter = asyncio.create_task(_hold(queue, told))
        await asyncio.sleep(0)
        assert told == [0]
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    async with asyncio.timeout(60):
        async with queue.slot("q"):
            assert queue.waiting == 0


async def _hold(queue: FairQueue, told: list[int]) -> None:
    async with queue.slot("p", waits=told.append):
        raise AssertionError("its turn never comes")


async def test_a_turn_that_comes_with_the_cancellation_goes_on_to_the_next() -> None:
    queue = FairQueue(1)
    entered = asyncio.Event()

    async def second() -> None:
        async with queue.slot("b"):
            entered.set()

    async with asyncio.TaskGroup() as group:
        async with queue.slot("a"):
            doomed = asyncio.create_task(_hold(queue, []))
            await asyncio.sleep(0)
            group.create_task(second())
            await asyncio.sleep(0)
        doomed.cancel()  # its event is set already, the task has not run yet
        await asyncio.wait([doomed])
        async with asyncio.timeout(60):
            await entered.wait()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1), st.integers(0, 2)), max_size=12),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)),
)
def test_nobody_able_is_passed_over(items: list[tuple[str, int, int]], running: dict[str, int]) -> None:
    waiting = [Ticket(number, *item) for number, item in enumerate(items)]
    found = first_of(waiting, running)
    able = [item for item in waiting if not item.limit or running.get(item.project, 0) < item.limit]
    if found is None:
        assert not able
        return
    assert found in able
    assert all(
        item.priority < found.priority
        or (item.priority == found.priority and running.get(item.project, 0) >= running.get(found.project, 0))
        for item in able
    )
