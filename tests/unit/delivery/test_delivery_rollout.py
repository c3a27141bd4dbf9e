"""Deliveries, rollbacks, scaling: what happens, in which order, and what is left when it fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from delivery_bench import APP, Bench, service

from slipway.access import SYSTEM
from slipway.base.progress import silent
from slipway.compose import DependsOn, Port, VolumeMount
from slipway.delivery import AppRef
from slipway.errors import Conflict, Failed, Invalid, NotFound, SlipwayError, Unavailable
from slipway.testing.memory_engine import LAST_WORDS

WEB = service("web")
DATA = (VolumeMount("/data", "volume", "data"),)


async def test_a_first_delivery(bench: Bench) -> None:
    outcome = await bench.deliver(WEB)
    assert (outcome.release, outcome.unchanged) == (1, False)
    assert outcome.urls == ["http://web.shop.demo.localhost/"]
    assert outcome.timings.keys() == {"build", "run"}
    assert await bench.statuses() == {1: "active"}
    assert bench.builder.tags.keys() == {"demo/shop-web:1"}
    assert bench.states("web") == ["starting", "running", "routed"]
    (release,) = await bench.apps.releases(APP)
    assert (release.created_by, release.source_revision) == (SYSTEM.name, "abc")


async def test_nothing_changed_is_seen(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.world.trace.clear()
    outcome = await bench.deliver(WEB)
    assert (outcome.release, outcome.unchanged) == (1, True)
    assert bench.world.trace == []
    assert bench.builder.tags.keys() == {"demo/shop-web:1"}


async def test_a_change_is_ready_before_it_answers_and_recorded_before_the_old_one_ends(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.builder.sources["web"] = "second"
    bench.world.trace.clear()
    recorded: dict[str, int] = {}
    bench.world.hook = lambda step: recorded.setdefault(step, bench.recorded_now())
    await bench.deliver(WEB)
    assert bench.world.trace == [
        "prepare", "start web-1", "ready web-1", "publish web=web.2", "drain web.1", "stop web.1", "remove web.1",
    ]  # fmt: skip
    assert list(recorded.values()) == [1, 1, 1, 1, 2, 2, 2]
    assert await bench.running() == {"web": [2]}


async def test_only_what_changed_is_replaced(bench: Bench) -> None:
    await bench.deliver(WEB, service("api"), service("worker", "idle"))
    bench.builder.sources["api"] = "second"
    await bench.deliver(WEB, service("api"), service("worker", "idle"))
    assert await bench.running() == {"web": [1], "worker": [1], "api": [2]}
    assert bench.states("web")[-1] == "unchanged"


async def test_a_writer_of_a_volume_ends_before_the_next_one_starts(bench: Bench) -> None:
    store = service("store", volumes=DATA)
    await bench.deliver(store)
    bench.builder.sources["store"] = "second"
    bench.world.trace.clear()
    await bench.deliver(store)
    assert bench.world.trace == [
        "prepare", "publish store=", "drain store.1", "stop store.1", "start store-1", "ready store-1",
        "publish store=store.2", "remove store.1",
    ]  # fmt: skip


async def test_dependencies_come_up_first_and_the_rest_side_by_side(bench: Bench) -> None:
    needs = {"db": DependsOn("service_healthy"), "migrate": DependsOn("service_completed_successfully")}
    await bench.deliver(service("db", "idle"), service("migrate", "job", depends_on={"db": DependsOn()}),
                        service("web", depends_on=needs), service("lone", "idle"))  # fmt: skip
    trace = bench.world.trace
    order = ["ready db-1", "start migrate-1", "ready migrate-1", "completed migrate", "start web-1"]
    assert [step for step in trace if step in order] == order
    assert trace.index("start lone-1") < trace.index("ready db-1")


async def test_a_failure_leaves_the_old_release_as_it_was(bench: Bench) -> None:
    await bench.deliver(WEB, service("api"))
    routes = dict(bench.world.routes)
    bench.builder.sources["web"] = "second"
    with pytest.raises(Failed, match=LAST_WORDS) as raised:
        await bench.deliver(WEB, replace(service("api"), command=("fail",)))
    assert raised.value.context["log"] == [LAST_WORDS]
    assert await bench.statuses() == {1: "active", 2: "failed"}
    assert await bench.running() == {"web": [1], "api": [1]}
    assert len(bench.world.instances) == 2
    assert bench.world.routes == routes
    failed = await bench.apps.release(APP, 2)
    assert LAST_WORDS in (failed.error or "")


async def test_a_stopped_writer_comes_back_after_a_failure(bench: Bench) -> None:
    store = service("store", volumes=DATA)
    await bench.deliver(store)
    with pytest.raises(Failed):
        await bench.deliver(replace(store, command=("fail",)))
    assert await bench.running() == {"store": [1]}
    assert bench.world.routes[APP] == {"store": ("store.1",)}
    assert bench.world.trace.index("remove store.2") < bench.world.trace.index("revive store.1")


async def test_old_instances_answer_on_their_own_ports_after_a_failure(bench: Bench) -> None:
    """A failed release that drops one service and moves another changes nothing about either."""
    store = service("store", volumes=DATA, ports=(Port(6000, 6000),))
    await bench.deliver(store, WEB)
    with pytest.raises(Failed):
        await bench.deliver(replace(store, command=("fail",), ports=(Port(7000, 7000),)))
    assert bench.world.routes[APP] == {"store": ("store.1",), "web": ("web.2",)}
    assert bench.world.listens[APP] == {6000}


async def test_a_first_delivery_that_fails_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(Failed):
        await bench.deliver(WEB, service("api", "fail"))
    assert bench.world.instances == {}
    assert bench.world.routes.get(APP, {}) == {}
    assert (await bench.apps.get(APP)).current is None
    assert (await bench.deliver(WEB)).release == 2


async def test_routes_that_are_refused_undo_the_rollout(bench: Bench) -> None:
    await bench.deliver(service("web", ports=(Port(80, 80),)), name="rival")
    await bench.deliver(WEB)
    with pytest.raises(Conflict):
        await bench.deliver(service("web", ports=(Port(80, 80),)))
    assert await bench.running() == {"web": [1]}


async def test_a_failing_build_changes_nothing(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.builder.failing.add("api")
    with pytest.raises(SlipwayError, match="api does not build"):
        await bench.deliver(WEB, service("api"))
    assert await bench.statuses() == {1: "active"}
    with pytest.raises(NotFound):
        await bench.deliver(replace(WEB, build=None, image="missing"))


async def test_builds_run_side_by_side(bench: Bench) -> None:
    both = asyncio.Barrier(2)
    bench.builder.before = lambda order: asyncio.wait_for(both.wait(), 60)
    await bench.deliver(WEB, service("api"))
    assert sorted(bench.builder.orders) == ["api", "web"]


async def test_deliveries_of_one_app_wait_for_each_other(bench: Bench) -> None:
    outcomes = await asyncio.gather(*(bench.deliver(WEB) for _ in range(3)))
    assert sorted((item.release, item.unchanged) for item in outcomes) == [(1, False), (1, True), (1, True)]


async def test_an_old_instance_that_cannot_be_ended_does_not_fail_the_release(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.builder.sources["web"] = "second"

    def hook(step: str) -> None:
        if step == "stop web.1":
            raise SlipwayError("the runtime is busy")

    bench.world.hook = hook
    assert (await bench.deliver(WEB)).release == 2
    assert await bench.statuses() == {1: "superseded", 2: "active"}
    bench.world.hook = lambda step: None
    await bench.deliverer.reconcile()
    assert await bench.running() == {"web": [2]}


async def test_a_client_that_goes_away_ends_the_rollout_cleanly(bench: Bench) -> None:
    await bench.deliver(WEB)
    task = asyncio.create_task(bench.deliver(replace(WEB, command=("deaf",))))
    while "ready web-1" not in bench.world.trace[5:]:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await bench.running() == {"web": [1]}
    assert await bench.statuses() == {1: "active", 2: "failed"}


async def test_cancelled_after_the_switch_the_new_release_stays(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.builder.sources["web"] = "second"
    task = asyncio.create_task(bench.deliver(WEB))

    def hook(step: str) -> None:
        if step == "drain web.1":
            task.cancel()

    bench.world.hook = hook
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await bench.statuses() == {1: "superseded", 2: "active"}
    await bench.reopen()
    await bench.deliverer.reconcile()
    assert await bench.running() == {"web": [2]}


async def test_rollback_goes_back_one_by_one_or_to_a_number(bench: Bench) -> None:
    for text in ("one", "two", "three"):
        bench.builder.sources["web"] = text
        await bench.deliver(WEB)
    for to, expected in ((None, 2), (None, 1), (3, 3)):
        assert (await bench.deliverer.rollback(APP, to, SYSTEM, silent)).release == expected
        assert await bench.running() == {"web": [expected]}
        assert [number for number, status in (await bench.statuses()).items() if status == "active"] == [
            expected
        ]
    assert bench.builder.orders == ["web"] * 3


async def test_rollbacks_that_make_no_sense(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.deliverer.rollback(APP, None, SYSTEM, silent)
    await bench.deliver(WEB)
    with pytest.raises(Conflict, match="no earlier release"):
        await bench.deliverer.rollback(APP, None, SYSTEM, silent)
    with pytest.raises(NotFound):
        await bench.deliverer.rollback(APP, 9, SYSTEM, silent)
    with pytest.raises(Failed):
        await bench.deliver(replace(WEB, command=("fail",)))
    with pytest.raises(Conflict, match="never served"):
        await bench.deliverer.rollback(APP, 2, SYSTEM, silent)


async def test_a_rollback_that_fails_may_be_tried_again(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.builder.sources["web"] = "second"
    await bench.deliver(WEB)

    def hook(step: str) -> None:
        if step.startswith("start"):
            raise Failed("no memory")

    bench.world.hook = hook
    with pytest.raises(Failed):
        await bench.deliverer.rollback(APP, None, SYSTEM, silent)
    assert await bench.statuses() == {1: "superseded", 2: "active"}
    assert await bench.running() == {"web": [2]}


async def test_scaling(bench: Bench) -> None:
    await bench.deliver(WEB, service("store", "idle", volumes=DATA))
    await bench.deliverer.scale(APP, {"web": 3}, silent)
    assert await bench.running() == {"web": [1, 1, 1], "store": [1]}
    bench.builder.sources["web"] = "second"
    await bench.deliver(WEB, service("store", "idle", volumes=DATA))
    assert await bench.running() == {"store": [1], "web": [2, 2, 2]}
    await bench.deliverer.scale(APP, {"web": 0}, silent)
    assert await bench.running() == {"store": [1]}
    for replicas, error in (({"none": 1}, Invalid), ({"web": 1001}, Invalid), ({"store": 2}, Conflict)):
        with pytest.raises(error):
            await bench.deliverer.scale(APP, replicas, silent)


async def test_scaling_that_fails_is_not_remembered(bench: Bench) -> None:
    await bench.deliver(WEB)

    def hook(step: str) -> None:
        if step == "start web-2":
            raise Failed("no memory")

    bench.world.hook = hook
    with pytest.raises(Failed):
        await bench.deliverer.scale(APP, {"web": 2}, silent)
    assert (await bench.apps.get(APP)).scale == {}


async def test_restart_replaces_instances(bench: Bench) -> None:
    await bench.deliver(WEB, service("api"))
    before = set(bench.world.instances)
    await bench.deliverer.restart(APP, ["web"], silent)
    gone = before - set(bench.world.instances)
    assert [bench.world.behaviours[name] for _, name in gone] == ["serve"]
    assert len(bench.world.instances) == 2
    assert await bench.statuses() == {1: "active"}
    with pytest.raises(Invalid):
        await bench.deliverer.restart(APP, ["none"], silent)


async def test_removing(bench: Bench) -> None:
    for volumes in (False, True):
        await bench.deliver(service("store", volumes=DATA))
        await bench.deliverer.remove(APP, volumes, silent)
        assert bench.world.instances == {}
        assert bench.world.volumes == (set() if volumes else {(APP, "data")})
        with pytest.raises(NotFound):
            await bench.apps.get(APP)
    with pytest.raises(NotFound):
        await bench.deliverer.remove(AppRef("demo", "none"), False, silent)


async def test_a_removal_that_was_begun_is_what_happens(bench: Bench) -> None:
    await bench.deliver(service("store", volumes=DATA))
    await bench.deliver(service("store", volumes=DATA, labels={"a": "b"}))
    bench.world.hook = _no_removal
    with pytest.raises(Unavailable):
        await bench.deliverer.remove(APP, True, silent)
    bench.world.hook = lambda step: None
    for change in (
        bench.deliverer.rollback(APP, None, SYSTEM, silent),
        bench.deliverer.scale(APP, {"store": 1}, silent),
        bench.deliverer.restart(APP, [], silent),
    ):
        with pytest.raises(Conflict, match="being removed"):
            await change
    await bench.deliverer.remove(APP, False, silent)
    assert bench.world.instances == {}
    assert bench.world.volumes == set(), "they were to go"


def _no_removal(step: str) -> None:
    if step.startswith("remove "):
        raise Unavailable("the runtime does not answer")


async def test_what_the_engine_cannot_do_is_refused_before_anything_is_built(bench: Bench) -> None:
    with pytest.raises(Invalid, match=r"services\.web\.shm_size is not supported yet"):
        await bench.deliver(replace(WEB, shm_size=1))
    assert bench.builder.orders == []
