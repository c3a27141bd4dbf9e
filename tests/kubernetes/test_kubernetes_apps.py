"""Compose apps on a real cluster: delivered, changed, hurt, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.access import SYSTEM
from slipway.base.progress import silent
from slipway.compose import DependsOn, Service, VolumeMount
from slipway.errors import Failed, NotFound
from slipway.testing.kubernetes import Cluster
from slipway.testing.kubernetes_apps import PORT, Bench, healthy, opened_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(580)]
DATA = (VolumeMount("/data", "volume", "data"),)
DONE = {"db": DependsOn("service_healthy"), "migrate": DependsOn("service_completed_successfully")}


@pytest.fixture
async def bench(cluster: Cluster, busybox: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(cluster, busybox, tmp_path) as opened:
        yield opened


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.3)


def shop(bench: Bench, text: str = "one") -> tuple[Service, ...]:
    """A store with a volume, a job that writes to it, and a page that asks the store by its name."""
    database = bench.web("stored", "db", volumes=DATA, healthcheck=healthy("wget -qO- http://127.0.0.1:8000"))
    ask = f"wget -qO- http://db:{PORT}/"
    migrate = bench.job(f"{ask} && echo migrated", depends_on={"db": DependsOn("service_healthy")})
    return database, migrate, bench.web(text, depends_on=DONE)


@pytest.mark.smoke
async def test_an_app_with_a_store_a_job_and_a_page(bench: Bench) -> None:
    outcome = await bench.deliver(*shop(bench))
    assert outcome.urls[-1] == f"http://web.shop.{bench.project}.apps.test/"
    assert await bench.fetch("web") == "one\n"
    states = [
        (event["service"], event["state"]) for event in bench.events if event["event"] == "service.state"
    ]
    assert states.index(("db", "healthy")) < states.index(("migrate", "starting"))
    assert states.index(("migrate", "completed")) < states.index(("web", "starting"))
    found = {item.service: item for item in await bench.views.instances(bench.app)}
    assert (found["web"].running, found["web"].health, found["web"].release) == (True, "healthy", 1)
    assert (found["migrate"].running, found["migrate"].exit_code) == (False, 0)
    lines = [
        line.text async for line in bench.views.logs(bench.app, found["migrate"], follow=False, tail=None)
    ]
    assert lines == ["stored", "migrated"]
    assert (await bench.deliver(*shop(bench))).unchanged
    await bench.deliverer.remove(bench.app, False, silent)
    assert await bench.objects() == {"persistentvolumeclaim/shop-data"}
    await bench.deliver(*shop(bench))
    await bench.deliverer.remove(bench.app, True, silent)
    assert await bench.objects() == set()


async def test_no_request_fails_while_releases_change(bench: Bench) -> None:
    await bench.deliver(bench.web("one", replicas=2))
    words = ("get", "service", "web", "-n", bench.namespace, "-o", "jsonpath={.spec.clusterIP}")
    address = await bench.kubectl(*words)
    ask = f"busybox timeout 5 busybox wget -qO- http://{address}:{PORT}/"
    script = f"for i in $(seq 400); do {ask} || echo FAILED; sleep 0.03; done"
    load = asyncio.create_task(asyncio.to_thread(bench.visitor.shell, script))
    await asyncio.sleep(0.5)
    await bench.deliver(bench.web("two", replicas=2))
    assert await bench.fetch("web") == "two\n"
    await bench.deliverer.rollback(bench.app, None, SYSTEM, silent)
    assert await bench.fetch("web") == "one\n"
    answers = (await load).split()
    assert set(answers) == {"one", "two"}


@pytest.mark.smoke
async def test_a_release_that_does_not_get_healthy_is_taken_back(bench: Bench) -> None:
    good = (bench.web("one"), bench.web("stored", "db", volumes=DATA))
    await bench.deliver(*good)
    before = await bench.objects()
    failing = replace(bench.web("two"), command=("sh", "-c", "echo I cannot go on; exit 3"))
    with pytest.raises(Failed, match=r"web ended with exit code 3(?s:.)*I cannot go on"):
        await bench.deliver(failing, good[1], bench.idle(name="extra"))
    assert await bench.fetch("web") == "one\n"
    assert await bench.objects() == before
    with pytest.raises(Failed, match="image that cannot be pulled"):
        await bench.deliver(replace(good[0], image="slipway.test/missing:1"), good[1])
    broken = replace(good[1], command=("sh", "-c", "exit 4"))
    with pytest.raises(Failed, match="db ended with exit code 4"):
        await bench.deliver(good[0], broken)
    assert await bench.objects() == before
    assert (await bench.deliver(*good)).unchanged
    statuses = [item.status for item in await bench.apps.releases(bench.app)]
    assert statuses == ["failed", "failed", "failed", "active"]


async def test_a_first_release_that_fails_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(Failed, match="migrate did not complete: ended with exit code 5"):
        await bench.deliver(bench.job("exit 5"), bench.web(depends_on={"migrate": DONE["migrate"]}))
    await bench.deliverer.reconcile()
    assert await bench.objects() == set()


async def test_what_cannot_be_changed_is_replaced(bench: Bench) -> None:
    """A name gets an address, and loses it again; a service gets a volume."""
    await bench.deliver(bench.idle(), bench.web("one"))
    words = ("get", "service", "worker", "-n", bench.namespace, "-o", "jsonpath={.spec.clusterIP}")
    assert await bench.kubectl(*words) == "None"
    await bench.deliver(bench.idle(expose=(9000,)), bench.web("two", volumes=DATA))
    assert await bench.kubectl(*words) != "None"
    assert "statefulset/shop-web" in await bench.objects()
    assert "deployment/shop-web" not in await bench.objects()
    await bench.deliver(bench.idle(), bench.web("three"))
    assert await bench.kubectl(*words) == "None"
    assert await bench.fetch("web") == "three\n"


async def test_scaling_and_restarting(bench: Bench) -> None:
    await bench.deliver(bench.web("one"))
    await bench.deliverer.scale(bench.app, {"web": 3}, silent)
    first = {item.id for item in await bench.views.instances(bench.app) if item.running}
    assert len(first) == 3
    await bench.deliverer.restart(bench.app, ["web"], silent)
    second = {item.id for item in await bench.views.instances(bench.app) if item.running}
    assert len(second) == 3
    assert not first & second
    await bench.deliverer.reconcile()
    await asyncio.sleep(1)
    third = {item.id for item in await bench.views.instances(bench.app) if item.running}
    assert third == second


@pytest.mark.smoke
async def test_drift_is_mended_with_nothing_else_touched(bench: Bench) -> None:
    await bench.deliver(bench.web("one"), bench.idle())
    before = await bench.objects()
    there = ("-n", bench.namespace)
    await bench.kubectl("delete", "service,ingress", "--all", *there)
    await bench.kubectl("scale", "deployment", "shop-web", "--replicas=2", *there)
    await bench.kubectl("label", "deployment", "shop-worker", "slipway/service=other", "--overwrite", *there)
    await bench.kubectl("create", "configmap", "stray", *there)
    await bench.kubectl("label", "configmap", "stray", f"slipway/project={bench.project}", "slipway/app=shop",
                        "app.kubernetes.io/managed-by=slipway", *there)  # fmt: skip
    words = ("get", "deployment", "shop-web", *there, "-o", "jsonpath={.spec.replicas}")

    async def is_mended() -> bool:  # once it is heard of
        await bench.deliverer.reconcile()
        return await bench.objects() == before and await bench.kubectl(*words) == "1"

    async def is_quiet() -> bool:
        sent = bench.client.requests
        await bench.deliverer.reconcile()
        return bench.client.requests == sent

    await eventually(is_mended)
    await eventually(is_quiet)


async def test_two_apps_of_a_project_may_have_services_of_the_same_name(bench: Bench) -> None:
    second = replace(bench.app, name="second")
    await bench.deliver(bench.web("one"))
    asks = bench.idle(
        f"wget -qO- http://web:{PORT}; exec sleep 1000", depends_on={"web": DependsOn("service_healthy")}
    )
    await bench.deliver(bench.web("other"), asks, name="second")
    (worker,) = [item for item in await bench.views.instances(second) if item.service == "worker"]

    async def has_asked() -> bool:
        lines = [line.text async for line in bench.views.logs(second, worker, follow=False, tail=None)]
        return lines == ["other"]

    await eventually(has_asked)
    assert await bench.fetch("web") == "one\n"
    with pytest.raises(NotFound):
        await bench.apps.get(replace(bench.app, name="third"))
