"""Workers that wait: when they are given up, tried again, dismissed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from slipway.build.pods import idle
from slipway.build.pods.builder import NoRoom, Place
from slipway.build.pods.desk import Desk, WorkerLost
from slipway.build.pods.idle import Idle, IdleBounds
from slipway.build.pods.pod import Pod
from slipway.build.sandbox import Limits

PLACE = Place("b", "shop", Limits(1, 1, 1, 1, 1), "east")
OTHER = replace(PLACE, project="farm")


class Cluster:
    """Where workers are started; ``refused`` is raised instead, once for each."""

    def __init__(self, *, come_in: bool = True) -> None:
        self.desk = Desk()
        self.come_in = come_in
        self.refused: list[Exception] = []
        self.pods: list[Pod] = []
        self.projects: list[str] = []
        self.attempts = 0

    @asynccontextmanager
    async def start(self, place: Place, desk: Desk) -> AsyncIterator[Pod]:
        self.attempts += 1
        if self.refused:
            raise self.refused.pop(0)
        ticket = desk.ticket()
        unused: Any = None
        pod = Pod(unused, f"p{self.attempts}", "builds", ticket, place.cluster, lambda _: None)
        self.pods.append(pod)
        self.projects.append(place.project)
        if self.come_in:
            desk.join(ticket.token)
        try:
            yield pod
        finally:
            self.projects.pop(self.pods.index(pod))
            self.pods.remove(pod)
            desk.withdraw(ticket)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_FIRST_PAUSE", 0.001)


async def test_one_that_is_lost_before_or_after_it_came_in_is_replaced() -> None:
    cluster = Cluster(come_in=False)
    found = Idle(IdleBounds(1), cluster.start)
    for come_in in (False, True):
        found.wanted(PLACE, cluster.desk)
        await until(lambda: len(cluster.pods) == 1)
        (lost,) = cluster.pods
        cluster.come_in = come_in
        lost.over.set_exception(WorkerLost("evicted"))
        await until(lambda lost=lost: bool(cluster.pods) and lost not in cluster.pods)  # type: ignore[misc]
    (pod,) = cluster.pods
    await until(lambda: any(item.pod is pod for item in found._waiting))
    taken = found.take(PLACE)
    assert taken is not None
    async with taken as given:
        assert given is pod
        assert found.take(PLACE) is None
        assert cluster.pods == [pod]
    assert cluster.pods == []
    assert found._waiting == []


async def test_one_that_does_not_come_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "COMING_SECONDS", 0.05)
    monkeypatch.setattr(idle, "_FIRST_PAUSE", 10000.0)
    cluster = Cluster(come_in=False)
    found = Idle(IdleBounds(1, seconds=100), cluster.start)
    found.wanted(PLACE, cluster.desk)
    await until(lambda: cluster.attempts == 1 and not cluster.pods and not found._waiting)
    monkeypatch.setattr(idle, "COMING_SECONDS", 1000.0)
    cluster.come_in = True
    found.wanted(PLACE, cluster.desk)
    await until(lambda: len(cluster.pods) == 1)
    await found.close()
    assert cluster.pods == []


async def test_a_quota_ends_an_attempt_and_the_next_ones_come_more_and_more_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(idle, "_FIRST_PAUSE", 5.0)
    cluster = Cluster()
    cluster.refused = [NoRoom("quota") for _ in range(7)]
    found = Idle(IdleBounds(1), cluster.start)
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", noted)
        found.wanted(PLACE, cluster.desk)
        async with asyncio.timeout(60):
            while not cluster.pods:
                await sleep(0.001)
    assert pauses == [5, 10, 20, 40, 80, 160, 160]
    assert cluster.attempts == 8
    await found.close()


async def test_all_together_are_bounded_and_the_oldest_leaves_for_the_next() -> None:
    cluster = Cluster()
    found = Idle(IdleBounds(2, total=3), cluster.start)
    found.wanted(PLACE, cluster.desk)
    await until(lambda: cluster.projects == ["shop", "shop"])
    found.wanted(OTHER, cluster.desk)
    await until(lambda: cluster.projects == ["shop", "farm", "farm"])
    found.wanted(PLACE, cluster.desk)
    await until(lambda: cluster.projects == ["shop", "farm", "shop"])
    many = Idle(IdleBounds(9, total=2), cluster.start)
    many.wanted(PLACE, cluster.desk)
    await until(lambda: len(cluster.pods) == 5)
    await many.close()
    await found.close()
    assert cluster.pods == []


async def test_who_waits_gives_way_to_a_build_that_finds_no_room() -> None:
    cluster = Cluster()
    found = Idle(IdleBounds(1), cluster.start)
    found.wanted(PLACE, cluster.desk)
    found.wanted(OTHER, cluster.desk)
    await until(lambda: cluster.projects == ["shop", "farm"])
    found.give_way("west")
    found.give_way("east", "third")
    assert len(found._waiting) == 2
    found.give_way("east", "farm")
    await until(lambda: cluster.projects == ["shop"])
    taken = found.take(PLACE)
    assert taken is not None
    async with taken:
        found.give_way("east")  # but who has a build stays
        await asyncio.sleep(0)
        assert cluster.projects == ["shop"]
    found.wanted(PLACE, cluster.desk)
    await until(lambda: cluster.projects == ["shop"])
    cluster.come_in = False
    found.wanted(OTHER, cluster.desk)  # nor does it matter whether it has come in
    await until(lambda: cluster.projects == ["shop", "farm"])
    found.give_way("east", "farm")
    found.give_way("east")
    await until(lambda: cluster.pods == [] and not found._tasks)
