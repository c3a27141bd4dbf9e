"""What others made on a real cluster stays theirs, and what serves goes on while its owner is replaced."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slipway.base.progress import silent
from slipway.compose import VolumeMount
from slipway.errors import Conflict
from slipway.testing.kubernetes import Cluster
from slipway.testing.kubernetes_apps import Bench, opened_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(580)]


@pytest.fixture
async def bench(cluster: Cluster, busybox: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(cluster, busybox, tmp_path) as opened:
        yield opened


async def found(bench: Bench, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        await bench.kubectl("get", *words, "-n", bench.namespace, "-o", "json")
    )
    return answer


async def follow(bench: Bench, hint: str) -> None:
    """What it says after ``kubectl``, up to the next remark."""
    await bench.kubectl(*hint.partition("kubectl ")[2].partition(";")[0].split())


async def test_what_somebody_else_made_is_not_taken(bench: Bench, tmp_path: Path) -> None:
    await bench.kubectl("create", "namespace", bench.namespace)
    await bench.kubectl("create", "deployment", "theirs", f"--image={bench.image}", "-n", bench.namespace)
    with pytest.raises(Conflict, match="in use by somebody else") as caught:
        await bench.deliver(bench.web())
    assert await bench.objects() == set()
    await follow(bench, caught.value.hint)

    rule = "--rule=theirs.test/=theirs:80"
    await bench.kubectl("create", "ingress", "shop-web", rule, "-n", bench.namespace)
    before = await found(bench, "ingress", "shop-web")
    with pytest.raises(Conflict, match=r"Ingress shop-web .* that somebody else made") as caught:
        await bench.deliver(bench.web())
    await bench.deliverer.reconcile()
    assert await found(bench, "ingress", "shop-web") == before
    assert await bench.objects() == set()

    await follow(bench, caught.value.hint)
    await bench.deliver(bench.web())
    hosts = {item["host"] for item in (await found(bench, "ingress", "shop-web"))["spec"]["rules"]}
    assert hosts == {f"web.shop.{bench.project}.apps.test"}
    await bench.deliverer.remove(bench.app, False, silent)
    assert (await found(bench, "deployment", "theirs"))["metadata"]["name"] == "theirs"


async def test_a_stateful_sets_pods_go_on_while_it_is_replaced(bench: Bench) -> None:
    store = bench.web("stored", "db", volumes=(VolumeMount("/data", "volume", "data"),))
    await bench.deliver(store)
    pods = ("pods", "-l", "slipway/service=db")
    (pod,) = (await found(bench, *pods))["items"]
    made = await found(bench, "statefulset", "shop-db")
    # As another version of ours might have made it.
    made["spec"] |= {"podManagementPolicy": "OrderedReady"}
    made["metadata"] = {key: made["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    del made["status"]
    await bench.client.delete("StatefulSet", "shop-db", bench.namespace, propagation="Orphan")
    async with asyncio.timeout(60):
        while await bench.client.get("StatefulSet", "shop-db", bench.namespace) is not None:
            await asyncio.sleep(0.2)
    await bench.client.create(made)
    async with asyncio.timeout(120):
        while (await found(bench, "statefulset", "shop-db"))["spec"]["podManagementPolicy"] != "Parallel":
            await bench.deliverer.reconcile()
            await asyncio.sleep(0.2)
    (same,) = (await found(bench, *pods))["items"]
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]
    assert not any(item.get("restartCount") for item in same["status"]["containerStatuses"])
