"""Apps are kept true to their releases."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest
from delivery_bench import APP, Bench, service

from slipway.base.progress import silent
from slipway.delivery import AppRef, Stepwise, Wanted
from slipway.delivery.reconcile import Reconciler
from slipway.errors import Failed, Unavailable
from slipway.testing.memory_engine import MemoryEngine

WEB = service("web", replicas=2)


async def test_what_ended_is_replaced_next_to_what_runs(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.world.crash("web.1", 1)
    await bench.deliverer.reconcile()
    assert await bench.running() == {"web": [1, 1]}
    assert set(bench.world.routes[APP]["web"]) == {"web.2", "web.3"}
    assert (APP, "web.1") not in bench.world.instances


async def test_what_is_whole_is_left_alone(bench: Bench) -> None:
    await bench.deliver(WEB, service("job", "job"))
    bench.world.trace.clear()
    await bench.deliverer.reconcile()
    assert [step for step in bench.world.trace if not step.startswith("publish")] == []


async def test_everything_comes_back_after_the_machine_was_started_anew(bench: Bench) -> None:
    await bench.deliver(WEB)
    for _, name in list(bench.world.instances):
        bench.world.crash(name, 255)
    await bench.reopen()
    await bench.deliverer.reconcile()
    assert await bench.running() == {"web": [1, 1]}


async def test_an_app_being_changed_is_left_alone(bench: Bench) -> None:
    await bench.deliver(WEB)
    started, go = asyncio.Event(), asyncio.Event()

    async def wait(order: object) -> None:
        started.set()
        await go.wait()

    bench.builder.before = wait
    task = asyncio.create_task(bench.deliver(WEB))
    await started.wait()
    bench.world.crash("web.1", 1)
    await bench.deliverer.reconcile()
    assert await bench.running() == {"web": [1]}
    go.set()
    await task


async def test_one_app_that_does_not_come_up_holds_no_other_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.deliver(WEB, name="aaa")
    await bench.deliver(WEB)

    def hook(step: str) -> None:
        if step.startswith("start") and not hits:
            hits.append(step)
            raise ValueError("a defect")

    hits: list[str] = []
    bench.world.hook = hook
    bench.world.crash("web.1", 1)
    bench.world.crash("web.3", 1)
    await bench.deliverer.reconcile()
    counts = [len((await bench.running(AppRef("demo", name)))["web"]) for name in ("aaa", "shop")]
    assert sorted(counts) == [1, 2]
    assert "could not be brought to its release" in caplog.text


async def test_a_delivery_between_listing_and_repairing_counts(bench: Bench) -> None:
    """The list of apps is old by the time its last app's turn comes."""
    await bench.deliver(WEB)
    reconciler = Reconciler(bench.apps, bench.engine_of, bench.deliverer._locks)
    listed = await bench.apps.all()
    bench.builder.sources["web"] = "second"
    await bench.deliver(WEB)
    assert listed[0].current == 1
    await reconciler._one(APP)
    assert await bench.running() == {"web": [2, 2]}


async def test_what_ends_again_and_again_is_repaired_ever_more_rarely(bench: Bench) -> None:
    await bench.deliver(service("web"))
    clock = 0.0
    reconciler = Reconciler(bench.apps, bench.engine_of, bench.deliverer._locks, lambda: clock)
    repairs = []
    for second in range(0, 400, 5):
        clock = float(second)
        for item in await bench.views.instances(APP):
            bench.world.crash(item.id, 1)
        bench.world.trace.clear()
        await reconciler.once()
        if "start web-1" in bench.world.trace:
            repairs.append(second)
    assert repairs == [0, 5, 15, 35, 75, 155, 315]


async def test_a_repair_that_fails_leaves_what_runs(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.world.crash("web.1", 1)

    def hook(step: str) -> None:
        if step.startswith("start"):
            raise Failed("no memory")

    bench.world.hook = hook
    await bench.deliverer.reconcile()
    assert await bench.running() == {"web": [1]}
    assert bench.world.routes[APP]["web"] == ("web.2",)
    assert await bench.statuses() == {1: "active"}


async def test_it_runs_until_it_is_cancelled(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.world.crash("web.1", 1)
    task = asyncio.create_task(bench.deliverer.run_forever())
    async with asyncio.timeout(60):
        while len((await bench.running()).get("web", [])) < 2:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.deliverer.remove(APP, True, silent)


class Watched(Stepwise):
    """Says that all is well, or nothing at all for a while."""

    silent_until: asyncio.Event | None = None

    async def sound(self, apps: Mapping[AppRef, Wanted]) -> Collection[AppRef]:
        if self.silent_until is not None:
            await self.silent_until.wait()
            raise Unavailable("the cluster does not answer")
        return apps.keys()


async def test_what_its_engine_calls_sound_is_not_looked_at(bench: Bench) -> None:
    await bench.deliver(WEB)
    bench.world.crash("web.1", 1)
    bench.engine = Watched(MemoryEngine(bench.world))
    await bench.deliverer.reconcile()
    assert await bench.running() == {"web": [1]}


async def test_an_engine_that_does_not_answer_holds_back_its_own_apps_only(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.deliver(WEB, name="aaa")
    await bench.deliver(WEB)
    await bench.create_project("far")
    far = Watched(MemoryEngine(bench.world))
    far.silent_until = asyncio.Event()
    bench.engines["far"] = far
    await bench.apps.ensure(AppRef("far", "first"))
    bench.world.crash("web.3", 1)
    task = asyncio.create_task(bench.deliverer.reconcile())
    async with asyncio.timeout(60):
        while await bench.running() != {"web": [1, 1]}:
            await asyncio.sleep(0.01)
    assert not task.done()
    far.silent_until.set()
    await task
    assert "could not be looked at: the cluster does not answer" in caplog.text
