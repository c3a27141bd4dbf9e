"""A cluster that goes silent in the middle of a delivery, and what the audit has of moves that nobody asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from spread_bench import APP, DATA, Bench, opened_bench, service, with_job

from slipway.access import AuditFilter, AuditLog
from slipway.errors import Conflict, Failed, Unavailable

WEB = service(replicas=4)
EVEN = {"east": 2, "west": 2}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = await opened_bench(tmp_path)
    found.add(east=1, west=1)
    yield found
    await found.spread.aclose()
    await found.database.dispose()


def silent_at(bench: Bench, name: str, step: str, then: Callable[[str], None]) -> None:
    """From that step on nothing there answers; what is seen of it a moment later is ``then``'s business."""

    def hook(found: str) -> None:
        if found.startswith(step):
            bench.cut(name)
            asyncio.get_running_loop().call_later(0.05, then, name)
            raise Unavailable("connection refused")

    bench.worlds[name].hook = hook


def warnings(bench: Bench) -> list[tuple[Any, str]]:
    return [(item.get("cluster"), str(item["text"])) for item in bench.events if item["event"] == "warning"]


async def shifts(bench: Bench) -> list[dict[str, Any]]:
    """Oldest first."""
    found = await AuditLog(bench.database).events(AuditFilter(project="demo", action="app.moved"), 100)
    assert {(item.actor, item.target, item.allowed) for item in found} <= {("reconciliation", str(APP), True)}
    return [item.detail for item in reversed(found)]


@pytest.mark.parametrize("step", ["prepare", "start", "ready", "publish"])
async def test_a_release_goes_on_without_a_cluster_that_fails(bench: Bench, step: str) -> None:
    await bench.deliver(WEB)
    silent_at(bench, "west", step, bench.fail)
    outcome = await bench.deliver(service(image="two", replicas=4))
    assert outcome.release == 2
    assert bench.running("east") == {"web": [2, 2]}
    placement = await bench.placement()
    assert dict(placement.weights) == {"east": 1}
    assert placement.away.keys() == {"west"}
    assert placement.on == {"east", "west"}
    ((cluster, text),) = warnings(bench)
    assert cluster == "west"
    assert "the cluster west has failed (connection refused): the release goes on without it" in text
    assert [item.status for item in await bench.apps.releases(APP)] == ["active", "superseded"]
    await bench.reconcile()
    assert bench.running("east") == {"web": [2, 2, 2, 2]}
    bench.back("west")
    await bench.reconcile()
    assert bench.running("east") == bench.running("west") == {"web": [2, 2]}
    assert [(item["from"], item["to"]) for item in await shifts(bench)] == [
        (["west"], ["east"]), (["east"], ["west"]),
    ]  # fmt: skip


async def test_one_that_is_silent_before_anything_is_known_of_it_holds_nothing_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same release again: it is asked whether it serves, before anything is moved."""
    await bench.deliver(WEB)

    async def serves(*_: object) -> bool:
        bench.fail("west")
        raise Unavailable("connection refused")

    monkeypatch.setattr(await bench.engine("west"), "serves", serves)
    outcome = await bench.deliver(WEB)
    assert not outcome.unchanged
    assert bench.counts()["east"] == 4
    assert dict((await bench.placement()).weights) == {"east": 1}


async def test_the_first_release_goes_on_without_one_that_fails(bench: Bench) -> None:
    silent_at(bench, "west", "start", bench.fail)
    await bench.deliver(WEB)
    await bench.reconcile()
    assert bench.running("east") == {"web": [1, 1, 1, 1]}
    bench.back("west")
    await bench.reconcile()
    assert bench.counts() == EVEN


async def test_one_that_was_silent_for_a_moment_takes_the_release_back(bench: Bench) -> None:
    await bench.deliver(WEB)
    silent_at(bench, "west", "ready", bench.back)
    with pytest.raises(Unavailable, match="the cluster west did not answer in the middle of it") as failed:
        await bench.deliver(service(image="two", replicas=4))
    assert "the release before stays in service" in failed.value.hint
    assert bench.running("east") == {"web": [1, 1]}
    assert [item.status for item in await bench.apps.releases(APP)] == ["failed", "active"]
    await bench.reconcile()
    assert bench.running("east") == bench.running("west") == {"web": [1, 1]}
    assert await shifts(bench) == []


async def test_a_release_that_is_bad_is_bad_without_the_silent_one_too(bench: Bench) -> None:
    await bench.deliver(WEB)
    silent_at(bench, "west", "start", bench.fail)
    with pytest.raises(Failed, match="ended with exit code 3"):
        await bench.deliver(service(behaviour="fail", image="two", replicas=4))
    assert bench.running("east") == {"web": [1, 1]}
    while not bench.health("west").failed:
        await asyncio.sleep(0.01)
    await bench.reconcile()
    assert bench.running("east") == {"web": [1, 1, 1, 1]}
    bench.back("west")
    await bench.reconcile()
    assert bench.running("east") == bench.running("west") == {"web": [1, 1]}


async def test_nothing_goes_on_without_the_jobs(bench: Bench) -> None:
    await bench.deliver(*with_job())
    assert (await bench.placement()).home == "east"
    silent_at(bench, "east", "start migrate", bench.fail)
    with pytest.raises(Unavailable, match="the cluster east, where its jobs run, did not answer"):
        await bench.deliver(*with_job("two"))
    assert bench.running("west")["web"] == [1, 1]
    bench.fail("east")
    await bench.deliver(*with_job("two"))
    assert bench.ran("west", "migrate") == 1
    assert bench.running("west")["web"] == [3, 3, 3, 3]


async def test_all_silent_is_no_release(bench: Bench) -> None:
    await bench.deliver(WEB)
    for name in ("east", "west"):
        silent_at(bench, name, "start", bench.fail)
    with pytest.raises(Unavailable, match=r"the cluster (east|west) did not answer in the middle of it"):
        await bench.deliver(service(image="two", replicas=4))
    assert (await bench.apps.get(APP)).current == 1
    for name in ("east", "west"):
        bench.back(name)
    for _ in range(2):
        await bench.reconcile()
    assert bench.running("east") == bench.running("west") == {"web": [1, 1]}


async def test_an_app_that_is_whole_says_where_it_was(bench: Bench) -> None:
    await bench.deliver(service("db", volumes=DATA))
    silent_at(bench, "east", "start", bench.fail)
    with pytest.raises(Unavailable, match="the cluster east did not answer in the middle of it"):
        await bench.deliver(service("db", image="two", volumes=DATA))


async def test_a_release_that_cannot_be_recorded_is_taken_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the one that fails is the last to be waited for."""
    await bench.deliver(WEB)
    east_is_up = asyncio.Event()

    def of_east(step: str) -> None:
        if step.startswith("publish"):
            east_is_up.set()

    async def refuse(*words: object) -> None:
        assert east_is_up.is_set()
        raise Conflict("another server was quicker")

    silent_at(bench, "west", "publish", bench.fail)
    bench.worlds["east"].hook = of_east
    monkeypatch.setattr(bench.apps, "activate", refuse)
    with pytest.raises(Conflict, match="quicker"):
        await bench.deliver(service(image="two", replicas=4))
    assert bench.running("east") == {"web": [1, 1]}


async def test_moves_that_nobody_asked_for_are_in_the_audit(bench: Bench) -> None:
    await bench.deliver(WEB)
    assert await shifts(bench) == [], "this one was asked for"
    bench.fail("west")
    await bench.reconcile()
    await bench.reconcile()
    away = {
        "app": "shop", "from": ["west"], "to": ["east"],
        "reason": "west failed: its API server does not answer",
    }  # fmt: skip
    assert await shifts(bench) == [away], "once, however often it is looked at"
    bench.back("west")
    await bench.reconcile()
    back = {"app": "shop", "from": ["east"], "to": ["west"], "reason": "west answers again"}
    assert await shifts(bench) == [away, back]
    bench.bound |= {"east": 3}
    await bench.reconcile()
    changed = {
        "app": "shop", "from": ["west"], "to": ["east"],
        "reason": "the clusters of the project, or their weights, have changed",
    }  # fmt: skip
    assert await shifts(bench) == [away, back, changed]


async def test_a_delivery_that_comes_first_says_so_too(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.fail("west")
    await bench.deliver(service(image="two", replicas=4))
    assert [item["reason"] for item in await shifts(bench)] == ["west failed: its API server does not answer"]
    assert bench.running("east") == {"web": [2, 2, 2, 2]}
    assert (await bench.places())["west"].state == "away"


async def test_an_app_that_may_run_once_only_is_there_as_a_whole(bench: Bench) -> None:
    await bench.deliver(service(x_slipway={"spread": False}))
    bench.fail("east")
    await bench.reconcile()
    assert [(item["from"], item["to"]) for item in await shifts(bench)] == [(["east"], ["west"])]
    bench.back("east")
    await bench.deliverer.move(APP, "east", False, bench.events.append)
    assert len(await shifts(bench)) == 1, "who asks for a move is in the audit of the request"
