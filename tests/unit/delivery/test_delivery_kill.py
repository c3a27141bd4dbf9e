"""Killed at every single step: what comes up afterwards is the old or the new release, whole and alone."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

import pytest
from delivery_bench import APP, Bench, Killed, service

from slipway.access import SYSTEM
from slipway.base.progress import silent
from slipway.compose import DependsOn, Service, VolumeMount
from slipway.errors import NotFound

STEPS = 60
STORE = service("store", "idle", volumes=(VolumeMount("/data", "volume", "data"),))


def first() -> tuple[Service, ...]:
    return (STORE, service("web", depends_on={"store": DependsOn()}, replicas=2))


def second() -> tuple[Service, ...]:
    changed = {"environment": {"A": "2"}}
    return tuple(replace(item, **changed) for item in first())  # type: ignore[arg-type]


async def whole(bench: Bench) -> int:
    """Everything runs as one release says, and nothing else is there; which release that is."""
    state = await bench.apps.get(APP)
    assert state.current is not None
    release = await bench.apps.release(APP, state.current)
    found = await bench.views.instances(APP)
    wanted = {name: release.config_of(item) for name, item in release.model.services.items()}
    assert sorted(item.service for item in found) == ["store", "web", "web"]
    assert all(item.running and item.config == wanted[item.service] for item in found)
    assert set(bench.world.routes[APP]["web"]) == {item.id for item in found if item.service == "web"}
    assert [number for number, status in (await bench.statuses()).items() if status == "active"] == [
        state.current
    ]
    assert "pending" not in (await bench.statuses()).values()
    return state.current


async def killed(work: Awaitable[object]) -> None:
    """Whatever became of it; if it was quicker than the kill, it just ended."""
    try:
        await work
    except Killed:
        return
    except BaseExceptionGroup as errors:
        if errors.subgroup(Killed) is None:
            raise


def watch(bench: Bench) -> list[str]:
    """The steps from now on at which no running instance answers."""
    inner = bench.world.hook
    silences = []

    def hook(step: str) -> None:
        running = {item.id for item in bench.world.instances.values() if item.running}
        if not running & set(bench.world.routes[APP]["web"]):
            silences.append(step)
        inner(step)

    bench.world.hook = hook
    return silences


async def test_a_delivery_killed_at_every_step(bench: Bench) -> None:
    await bench.deliver(*first())
    came_up = set()
    for step in range(1, STEPS):
        before = await whole(bench)
        hit = bench.kill_at(step)
        silent_while = watch(bench)
        version = replace(first()[1], environment={"STEP": str(step)})
        await killed(bench.deliver(replace(STORE, environment={"STEP": str(step)}), version))
        after = max(await bench.statuses())
        await bench.reopen()
        silent_after = watch(bench)
        await bench.deliverer.reconcile()
        assert (silent_while, silent_after) == ([], [])
        now = await whole(bench)
        assert now in (before, after)
        came_up.add(now == after)
        if not hit():
            break
    else:
        raise AssertionError(f"a delivery takes more than {STEPS} steps")
    assert came_up == {True, False}


async def test_a_first_delivery_killed_at_every_step(bench: Bench) -> None:
    for step in range(1, STEPS):
        hit = bench.kill_at(step)
        await killed(bench.deliver(*first()))
        await bench.reopen()
        await bench.deliverer.reconcile()
        if (await bench.apps.get(APP)).current is None:
            assert bench.world.instances == {}
            assert bench.world.routes.get(APP, {}) == {}
        else:
            await whole(bench)
            await bench.deliverer.remove(APP, False, silent)
        if not hit():
            return
    raise AssertionError(f"a delivery takes more than {STEPS} steps")


async def test_a_rollback_killed_at_every_step(bench: Bench) -> None:
    await bench.deliver(*first())
    await bench.deliver(*second())
    for step in range(1, STEPS):
        before = await whole(bench)
        hit = bench.kill_at(step)
        await killed(bench.deliverer.rollback(APP, 3 - before, SYSTEM, silent))
        await bench.reopen()
        await bench.deliverer.reconcile()
        assert await whole(bench) in (1, 2)
        if not hit():
            return
    raise AssertionError(f"a rollback takes more than {STEPS} steps")


async def test_a_removal_killed_at_every_step_is_finished(bench: Bench) -> None:
    for step in range(1, STEPS):
        await bench.deliver(*first())
        hit = bench.kill_at(step)
        await killed(bench.deliverer.remove(APP, True, silent))
        await bench.reopen()
        await bench.deliverer.reconcile()
        with pytest.raises(NotFound):
            await bench.apps.get(APP)
        assert (bench.world.instances, bench.world.routes, bench.world.volumes) == ({}, {}, set())
        if not hit():
            return
    raise AssertionError(f"a removal takes more than {STEPS} steps")


async def test_an_interrupted_removal_is_finished_by_the_next_delivery(bench: Bench) -> None:
    await bench.deliver(*first())
    bench.kill_at(2)
    with pytest.raises(Killed):
        await bench.deliverer.remove(APP, False, silent)
    await bench.reopen()
    assert (await bench.deliver(*first())).release == 1
    await whole(bench)
