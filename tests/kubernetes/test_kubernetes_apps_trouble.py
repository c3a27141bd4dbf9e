"""What must hold when a cluster, or the server that delivers to it, is in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.base.progress import silent
from slipway.compose import Service, VolumeMount
from slipway.delivery import Apps, Deliverer
from slipway.engines.kubernetes import KubernetesEngine, Setting
from slipway.errors import Conflict, Exhausted, Failed
from slipway.testing.kubernetes import Cluster, LocalCluster
from slipway.testing.kubernetes_apps import Bench, NoBuilder, healthy, opened_bench, whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DATA = (VolumeMount("/data", "volume", "data"),)
KILLS, SIDE_BY_SIDE = 50, 5


@pytest.fixture
async def bench(cluster: Cluster, busybox: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(cluster, busybox, tmp_path) as opened:
        yield opened


async def test_more_memory_than_allowed(bench: Bench) -> None:
    # Never healthy, so that it makes no difference how long it takes until the memory is full.
    greedy = bench.idle("exec tail /dev/zero", "greedy", memory=16 << 20, healthcheck=healthy("false"))
    with pytest.raises(Failed, match="it took more than its memory limit of 16Mi"):
        await bench.deliver(greedy)


async def test_no_node_has_room(bench: Bench) -> None:
    await bench.deliver(bench.web("one"))
    with pytest.raises(Failed, match=r"web finds no node to run on: .*Insufficient cpu"):
        await bench.deliver(bench.web("two", cpus=4000, cpus_reserved=4000))
    assert await bench.fetch("web") == "one\n"


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "Job"])
async def test_a_quota_is_used_up(bench: Bench, kind: str) -> None:
    await bench.deliver(bench.web("one"))
    await bench.kubectl("create", "quota", "small", "--hard=pods=1", "-n", bench.namespace)
    words = ("get", "quota", "small", "-n", bench.namespace, "-o", "jsonpath={.status.used.pods}")
    async with asyncio.timeout(60):
        while not await bench.kubectl(*words):  # it is not counted yet
            await asyncio.sleep(0.3)
    more: dict[str, Service] = {
        "Deployment": bench.idle(name="more"),
        "StatefulSet": bench.idle(name="more", volumes=DATA),
        "Job": bench.job(name="more"),
    }
    with pytest.raises(Exhausted, match="more has no room in its quota: small"):
        await bench.deliver(bench.web("one"), more[kind])
    assert await bench.fetch("web") == "one\n"


async def test_the_api_server_is_away_for_a_minute(local_cluster: LocalCluster, bench: Bench) -> None:
    await bench.deliver(bench.web("one"))
    task = asyncio.create_task(bench.deliver(bench.web("two")))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(local_cluster.stop_api)
    try:
        await asyncio.sleep(60)
        assert not task.done()
    finally:
        await asyncio.to_thread(local_cluster.start_api)
    assert (await task).release == 2
    warnings = [event["text"] for event in bench.events if event["event"] == "warning"]
    assert any("waiting for the cluster" in text for text in warnings)
    assert warnings[-1] == "the cluster answers again"
    assert await bench.fetch("web") == "two\n"


async def test_evicted_pods_are_replaced(bench: Bench) -> None:
    await bench.deliver(bench.web("one", replicas=2))
    (first, *_) = await bench.views.instances(bench.app)
    eviction = {
        "apiVersion": (await bench.client.resource("PodDisruptionBudget")).api_version, "kind": "Eviction",
        "metadata": {"name": first.id, "namespace": bench.namespace},
    }  # fmt: skip
    path = f"/api/v1/namespaces/{bench.namespace}/pods/{first.id}/eviction"
    await asyncio.to_thread(
        bench.cluster.kubectl, "create", "--raw", path, "-f", "-", stdin=json.dumps(eviction).encode()
    )
    assert (await bench.deliver(bench.web("two", replicas=2))).release == 2
    assert all(item.release == 2 for item in await bench.views.instances(bench.app) if item.running)


async def test_two_controllers_at_once_do_not_fight(bench: Bench) -> None:
    """One delivers, the other, with an older view of the database, keeps mending: it leaves the app alone."""
    await bench.deliver(bench.web("one"))
    other = KubernetesEngine(bench.client, Setting(domain="apps.test"), lease_seconds=3)

    async def engine_of(project: str) -> KubernetesEngine:
        return other

    second = Deliverer(Apps(bench.database), NoBuilder(), engine_of)
    await second.reconcile()
    task = asyncio.create_task(bench.deliver(bench.web("two", replicas=3)))
    while not task.done():
        await second.reconcile()
        await asyncio.sleep(0.1)
    await task
    assert "warning" not in {event["event"] for event in bench.events}
    generation = await bench.kubectl(
        "get", "deployment", "shop-web", "-n", bench.namespace, "-o", "jsonpath={.metadata.generation}"
    )
    assert generation == "2"
    both = await asyncio.gather(
        bench.deliver(bench.web("three")),
        second.scale(bench.app, {"web": 2}, silent),
        return_exceptions=True,
    )
    assert [item for item in both if isinstance(item, BaseException) and not isinstance(item, Conflict)] == []
    await bench.deliver(bench.web("three"))  # unless it came through, or came second and was told so
    assert (await bench.deliver(bench.web("three"))).unchanged
    await asyncio.gather(bench.deliverer.reconcile(), second.reconcile())
    assert (await bench.deliver(bench.web("three"))).unchanged
    await other.aclose()


async def test_killed_at_any_point_it_leaves_exactly_what_is_wanted(
    cluster: Cluster, busybox: str, tmp_path: Path
) -> None:
    """Several apps side by side, each with a controller of its own, since most of a delivery is waiting."""
    async with AsyncExitStack() as stack:
        directories = [tmp_path / f"app{number}" for number in range(SIDE_BY_SIDE)]
        for directory in directories:
            directory.mkdir()
        benches = [
            await stack.enter_async_context(opened_bench(cluster, busybox, directory))
            for directory in directories
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_kill_again_and_again(bench, directory, KILLS // SIDE_BY_SIDE))
                for bench, directory in zip(benches, directories, strict=True)
            ]
    assert False in set().union(*(task.result() for task in tasks))


async def _kill_again_and_again(bench: Bench, directory: Path, times: int) -> set[bool]:
    """What every kill left is put in order; whether deliveries were through when they were killed."""
    await bench.deliver(*whole(bench, "first"), configs={"site": "first"})
    kinds = {item.partition("-")[0] for item in await bench.objects()}
    began = time.monotonic()
    await bench.deliver(*whole(bench, "second"), configs={"site": "second"})
    longest = 1.2 * (time.monotonic() - began)
    ends = set()
    for number in range(times):
        ends.add(await _killed(bench, directory, f"text{number}", random.uniform(0, longest)))
        bench.reopen()
        await bench.apps.interrupt_pending()
        state = await bench.apps.get(bench.app)
        assert state.current is not None
        release = await bench.apps.release(bench.app, state.current)
        await _mended(bench)
        wanted = {
            f"{item['kind'].lower()}/{item['metadata']['name']}"
            for item in await bench.engine.render(bench.app, bench.wanted(release))
            if item["kind"] != "Namespace"
        }
        assert await bench.objects() - {"configmap/app.shop"} == wanted
        assert await bench.fetch("web") == f"{release.model.configs['site']}\n"
    assert {item.partition("-")[0] for item in await bench.objects()} == kinds
    return ends


async def _killed(bench: Bench, directory: Path, text: str, seconds: float) -> bool:
    """A delivery by a process that is killed after so long; whether it was through by then."""
    program: list[str | Path] = [
        sys.executable, "-m", "slipway.testing.kubernetes_apps", directory, bench.cluster.kubeconfig, bench.image,
        bench.project, text,
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begins\n"
    await asyncio.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    said = await process.stdout.read()
    await process.wait()
    return b"is through" in said


async def _mended(bench: Bench) -> None:
    async with asyncio.timeout(300):
        while True:
            await bench.deliverer.reconcile()
            state = await bench.apps.get(bench.app)
            assert state.current is not None
            release = await bench.apps.release(bench.app, state.current)
            if await bench.engine.serves(bench.app, replace(bench.wanted(release), scale=state.scale)):
                return
            await asyncio.sleep(0.5)
