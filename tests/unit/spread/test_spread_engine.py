"""Apps over several clusters: delivered, changed, moved when one fails, and taken back when it returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from spread_bench import APP, DATA, Bench, opened_bench, service, with_job

from slipway.access import SYSTEM
from slipway.base.progress import silent
from slipway.errors import Conflict, Failed, NotFound, SlipwayError, Unavailable

EVEN = {"east": 2, "west": 2}
WEB = service(replicas=4)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = await opened_bench(tmp_path)
    yield found
    await found.spread.aclose()
    await found.database.dispose()


async def test_an_app_without_volumes_is_spread_by_weight(bench: Bench) -> None:
    bench.add(east=3, west=1, north=0)
    await bench.deliver(WEB, service("api", replicas=1))
    assert bench.counts() == {"east": 3, "west": 1, "north": 0}
    assert bench.counts("api") == {"east": 1, "west": 1, "north": 0}, "names do not cross clusters"
    assert (await bench.deliver(WEB, service("api", replicas=1))).unchanged
    places = await bench.places()
    assert {name: (place.state, dict(place.replicas)) for name, place in places.items()} == {
        "east": ("carries", {"web": 3, "api": 1}),
        "west": ("carries", {"web": 1, "api": 1}),
    }
    assert {item.cluster for item in await bench.views.instances(APP)} == {"east", "west"}
    assert {event.get("cluster") for event in bench.events if event["event"] == "service.state"} == {
        "east", "west",
    }  # fmt: skip


async def test_every_move_is_made_on_all(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    await bench.deliver(service(image="two", replicas=4))
    assert bench.running("east") == bench.running("west") == {"web": [2, 2]}
    await bench.deliverer.rollback(APP, None, SYSTEM, silent)
    assert bench.running("east") == bench.running("west") == {"web": [1, 1]}
    await bench.scale(web=7)
    assert sorted(bench.counts().values()) == [3, 4]
    await bench.deliverer.restart(APP, ["web"], silent)
    assert sorted(bench.counts().values()) == [3, 4]
    await bench.deliverer.remove(APP, False, silent)
    assert bench.counts() == {"east": 0, "west": 0}


async def test_a_release_that_fails_on_one_is_taken_back_on_all(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)

    def hook(step: str) -> None:
        if step.startswith("start"):
            raise Failed("no room")

    bench.worlds["west"].hook = hook
    with pytest.raises(Failed, match="no room"):
        await bench.deliver(service(image="two", replicas=4))
    assert bench.running("east") == bench.running("west") == {"web": [1, 1]}
    assert [item.status for item in await bench.apps.releases(APP)] == ["failed", "active"]
    assert (await bench.placement()).weights == {"east": 1, "west": 1}


async def test_a_cancelled_delivery_leaves_what_was(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    waits = asyncio.Event()

    def hook(step: str) -> None:
        if step.startswith("ready"):
            waits.set()
            task.cancel()

    bench.worlds["west"].hook = hook
    task = asyncio.create_task(bench.deliver(service(image="two", replicas=4)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waits.is_set()
    assert bench.running("east") == bench.running("west") == {"web": [1, 1]}


async def test_jobs_run_once_and_everybody_waits_for_them(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(*with_job())
    assert (bench.ran("east", "migrate"), bench.ran("west", "migrate")) == (1, 0)
    assert bench.counts() == EVEN
    await bench.reconcile()
    assert (bench.ran("east", "migrate"), bench.ran("west", "migrate")) == (1, 0)
    bench.fail("east")
    await bench.reconcile()
    assert bench.counts()["west"] == 4
    assert bench.ran("west", "migrate") == 0, "it was done for this release"
    await bench.deliver(*with_job("two"))
    assert bench.ran("west", "migrate") == 1
    assert (await bench.placement()).home == "west"


async def test_an_app_with_volumes_is_whole_on_one(bench: Bench) -> None:
    bench.add(east=1, west=2)
    await bench.deliver(service("db", volumes=DATA), WEB)
    assert bench.counts() == {"east": 0, "west": 4}
    bench.bound |= {"east": 9, "west": 0}
    await bench.reconcile()
    await bench.deliver(service("db", volumes=DATA), service(image="two", replicas=4))
    assert bench.counts() == {"east": 0, "west": 4}, "its data is there"
    del bench.bound["west"]
    await bench.reconcile()
    assert bench.counts() == {"east": 0, "west": 4}


async def test_one_that_fails_gives_its_share_to_the_others(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    bench.cut("west")
    await bench.reconcile()
    assert bench.counts()["east"] == 2, "it may be back in a moment"
    assert (await bench.places())["west"].state == "silent"
    bench.fail("west")
    await bench.reconcile()
    assert bench.counts()["east"] == 4
    places = await bench.places()
    assert (places["east"].replicas, places["west"].state, places["west"].replicas) == (
        {"web": 4},
        "away",
        {},
    )
    assert places["west"].since
    assert "west failed, its share goes to east" in caplog.text
    assert {item.cluster for item in await bench.views.instances(APP)} == {"east"}
    await bench.deliver(service(image="two", replicas=4))
    assert bench.running("east") == {"web": [2, 2, 2, 2]}


async def test_one_that_returns_gets_its_share_back_without_a_gap(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    bench.fail("west")
    await bench.reconcile()
    await bench.deliver(service(image="two", replicas=4))
    least = []
    bench.back("west")
    bench.worlds["west"].hook = lambda step: least.append(bench.counts()["east"])
    bench.worlds["east"].hook = lambda step: least.append(sum(bench.counts().values()))
    await bench.reconcile()
    assert bench.running("west") == {"web": [2, 2]}, "what ran there was an earlier release"
    assert bench.counts() == EVEN
    assert min(least) >= 4
    assert dict((await bench.placement()).away) == {}
    assert (await bench.places())["west"].state == "carries"


async def test_a_server_that_starts_anew_waits_for_the_first_look(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    bench.fail("west")
    await bench.reconcile()
    bench.reopen()
    bench.cut("west")  # not yet for longer than the grace, as far as this server knows
    await bench.reconcile()
    assert bench.counts()["east"] == 4


async def test_shares_that_do_not_get_healthy_over_there_stay_here(bench: Bench) -> None:
    bench.add(east=1)
    await bench.deliver(WEB)

    def hook(step: str) -> None:
        if step.startswith("start"):
            raise Failed("no room")

    bench.add(west=1)
    bench.worlds["west"].hook = hook
    await bench.reconcile()
    assert bench.counts() == {"east": 4, "west": 0}
    bench.worlds["east"].crash(next(iter(bench.worlds["east"].instances.values())).id, 1)
    await bench.reconcile()
    assert bench.counts() == {"east": 4, "west": 0}, "what drifts here is mended all the same"
    bench.back("west")
    bench.reopen()
    await bench.reconcile()
    assert bench.counts() == EVEN


async def test_weights_move_shares_and_zero_empties(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    bench.bound |= {"east": 3}
    await bench.reconcile()
    assert bench.counts() == {"east": 3, "west": 1}
    bench.bound |= {"west": 0}
    bench.reopen()
    await bench.reconcile()
    assert bench.counts() == {"east": 4, "west": 0}
    assert (await bench.placement()).on == {"east"}
    bench.bound |= {"east": 0}
    await bench.reconcile()
    assert bench.counts() == {"east": 4, "west": 0}, "there is nowhere else"


async def test_drift_is_mended_on_each(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    for name in ("east", "west"):
        world = bench.worlds[name]
        world.crash(next(item.id for item in world.instances.values()), 1)
    assert bench.counts() == {"east": 1, "west": 1}
    await bench.reconcile()
    assert bench.counts() == EVEN


async def test_an_app_is_moved_when_asked(bench: Bench) -> None:
    bench.add(east=2, west=1)
    await bench.deliver(service("db", volumes=DATA), WEB)
    with pytest.raises(Conflict, match="data would stay behind: data"):
        await bench.deliverer.move(APP, "west", False, silent)
    with pytest.raises(Conflict, match="is on east already"):
        await bench.deliverer.move(APP, "east", True, silent)
    with pytest.raises(NotFound, match="north"):
        await bench.deliverer.move(APP, "north", True, silent)
    bench.events.clear()
    await bench.deliverer.move(APP, "west", True, bench.events.append)
    assert "stays behind" in str(bench.events[0]["text"])
    assert bench.counts() == {"east": 0, "west": 4}
    assert bench.worlds["east"].volumes == {(APP, "data")}
    assert {name: place.state for name, place in (await bench.places()).items()} == {
        "east": "data", "west": "carries",
    }  # fmt: skip
    await bench.reconcile()
    await bench.deliver(service("db", volumes=DATA), service(image="two", replicas=4))
    assert bench.counts() == {"east": 0, "west": 4}
    await bench.deliverer.remove(APP, True, silent)
    assert not bench.worlds["east"].volumes | bench.worlds["west"].volumes


async def test_an_app_with_volumes_leaves_a_failed_cluster_only_when_asked(bench: Bench) -> None:
    bench.add(east=2, west=1)
    web = service("db", volumes=DATA)
    await bench.deliver(web)
    bench.fail("east")
    await bench.reconcile()
    assert bench.counts("db")["west"] == 0
    assert (await bench.places())["east"].state == "silent"
    with pytest.raises(Unavailable, match="east is away") as refused:
        await bench.deliver(service("db", image="two", volumes=DATA))
    assert "slipway app move shop" in refused.value.hint
    await bench.deliverer.move(APP, "west", True, silent)
    assert bench.counts("db")["west"] == 1
    bench.back("east")
    await bench.reconcile()
    assert bench.counts("db") == {"east": 0, "west": 1}
    assert bench.worlds["east"].volumes == {(APP, "data")}


async def test_an_app_that_may_run_once_only_moves_as_a_whole(bench: Bench) -> None:
    bench.add(east=2, west=1)
    await bench.deliver(service(x_slipway={"spread": False}))
    assert bench.counts() == {"east": 1, "west": 0}
    bench.fail("east")
    await bench.reconcile()
    assert bench.counts()["west"] == 1
    bench.back("east")
    await bench.reconcile()
    assert bench.counts() == {"east": 0, "west": 1}, "it stays, and what was left there is gone"
    await bench.deliverer.move(APP, "east", False, silent)
    assert bench.counts() == {"east": 1, "west": 0}


async def test_a_spread_app_is_not_moved(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    with pytest.raises(Conflict, match="is spread by weight"):
        await bench.deliverer.move(APP, "west", False, silent)


async def test_a_removal_waits_for_a_cluster_that_is_away(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    bench.fail("west")
    with pytest.raises(Unavailable, match="west is away"):
        await bench.deliverer.remove(APP, False, silent)
    assert bench.counts()["east"] == 0
    assert (await bench.apps.get(APP)).removing
    bench.back("west")
    await bench.reconcile()
    assert bench.counts() == {"east": 0, "west": 0}
    with pytest.raises(NotFound):
        await bench.apps.get(APP)


async def test_a_cluster_that_was_forgotten_is_passed_over(bench: Bench) -> None:
    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    del bench.worlds["west"], bench.bound["west"]
    await bench.reconcile()
    assert bench.counts() == {"east": 4}
    await bench.deliverer.remove(APP, False, silent)
    assert bench.counts() == {"east": 0}


async def test_an_app_of_an_earlier_version_is_where_it_was(bench: Bench) -> None:
    """It has no record; it was on the heaviest cluster."""
    bench.add(east=1, west=5)
    await bench.deliver(service("db", volumes=DATA))
    await bench.placements.put(APP, type(await bench.placement())())
    await bench.reconcile()
    assert bench.counts("db") == {"east": 0, "west": 1}
    assert (await bench.placement()).home == "west"


async def test_without_a_cluster_nothing_is_delivered(bench: Bench) -> None:
    bench.add(east=0)
    with pytest.raises(Conflict, match="no cluster of the project takes apps"):
        await bench.deliver(WEB)


@pytest.mark.slow
async def test_a_kill_at_any_step_is_put_in_order(bench: Bench) -> None:
    """Of a delivery to two clusters, and of a share's way back."""

    class Killed(BaseException):
        pass

    bench.add(east=1, west=1)
    await bench.deliver(WEB)
    image = 1
    for step in range(1, 40):
        image += 1
        seen = 0

        def hook(_: str, at: int = step) -> None:
            nonlocal seen
            seen += 1
            if seen >= at:
                raise Killed

        for world in bench.worlds.values():
            world.hook = hook
        with suppress(Killed, BaseExceptionGroup, SlipwayError):
            await bench.deliver(service(image=f"image{image}", replicas=4))
        bench.reopen()
        await bench.apps.interrupt_pending()
        for _ in range(3):
            await bench.reconcile()
        current = (await bench.apps.get(APP)).current
        assert bench.running("east") == bench.running("west") == {"web": [current, current]}, step
        if seen < step:
            break
    else:
        raise AssertionError("no delivery came to its end")
