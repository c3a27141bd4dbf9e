"""Who builds next."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.queue import FairQueue, Ticket, first_of, without_clock


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


async def test_a_build_that_finds_no_room_lets_others_have_its_slot_and_keeps_its_age() -> None:
    queue, order = FairQueue(2, again=3600), list[str]()
    full, ended = asyncio.Event(), asyncio.Event()

    async def runs() -> None:
        async with queue.slot("a", place="east"):
            await ended.wait()

    async def refused(name: str) -> None:
        async with queue.slot("a", place="east") as slot:
            order.append(f"{name} looks")
            if not ended.is_set():
                full.set()
                await slot.again()
            order.append(name)

    async def builds(project: str, place: str) -> None:
        async with queue.slot(project, place=place):
            order.append(f"{project} {place}")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(runs())
        group.create_task(refused("first"))
        await full.wait()
        group.create_task(refused("second"))
        for place in [("b", "east"), ("a", "west")]:
            await group.create_task(builds(*place))
        assert order == ["first looks", "b east", "a west"], "who would find no room either does not look"
        ended.set()
    assert order[3:] == ["first", "second looks", "second"]
    assert queue.waiting == 0


async def test_one_at_a_time_looks_whether_there_is_room_by_now() -> None:
    queue, looked = FairQueue(9, again=0.001), list[int]()
    enough = asyncio.Event()

    async def build(number: int) -> None:
        async with queue.slot("a") as slot:
            while True:
                looked.append(number)
                if len(looked) > 20:
                    enough.set()
                if enough.is_set():
                    return
                await slot.again()

    await asyncio.wait_for(asyncio.gather(*(build(number) for number in range(3))), 60)
    assert looked == [0] * 21 + [1, 2], "the oldest is the next each time"
    async with asyncio.timeout(60):
        while queue._full:
            await asyncio.sleep(0.001)


async def test_a_build_that_is_cancelled_without_room_leaves_no_trace() -> None:
    queue = FairQueue(1, again=3600)
    refused = asyncio.Event()

    async def build() -> None:
        async with queue.slot("a") as slot:
            refused.set()
            await slot.again()

    task = asyncio.create_task(build())
    await refused.wait()
    task.cancel()
    await asyncio.wait({task})
    assert queue.waiting == 0
    async with asyncio.timeout(60), queue.slot("b"):
        pass


async def test_the_time_of_a_build_stands_still_while_it_has_no_room() -> None:
    queue = FairQueue(1, again=0.01)
    async with queue.slot("a") as slot, asyncio.timeout(1000) as clock:
        before = clock.when()
        assert before is not None
        await without_clock(slot, clock)
        after = clock.when()
        assert after is not None
        assert after >= before + 0.009
    async with queue.slot("a") as slot, asyncio.timeout(None) as clock:
        await without_clock(slot, clock)
        assert clock.when() is None


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


async def test_who_left_early_does_not_leave_twice() -> None:
    queue = FairQueue(1)
    async with queue.slot("a") as first:
        first.leave()
        first.leave()
        async with asyncio.timeout(60), queue.slot("b"):
            pass
        waiting: list[int] = []
        async with queue.slot("c"):
            other = asyncio.create_task(_pass(queue, waiting))
            while not waiting:
                await asyncio.sleep(0)
            assert not other.done()
        await other


async def _pass(queue: FairQueue, waiting: list[int]) -> None:
    async with queue.slot("d", waits=waiting.append):
        pass
