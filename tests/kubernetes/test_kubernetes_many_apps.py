"""Many apps with nothing to do cost next to nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.base.clock import now
from slipway.compose import Port, Project, Service, VolumeMount
from slipway.delivery import AppRef, Release, Wanted
from slipway.engines.kubernetes import manifests, namespace_manifest
from slipway.engines.kubernetes.objects import Object
from slipway.testing.kubernetes import LocalCluster
from slipway.testing.kubernetes_apps import Bench, opened_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
APPS = int(os.environ.get("SLIPWAY_TEST_APPS", "60"))
REQUESTS = 200
AT_ONCE = 16


@pytest.fixture
async def bench(local_cluster: LocalCluster, busybox: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(local_cluster, busybox, tmp_path) as opened:
        yield opened


def wanted(image: str, number: int) -> Wanted:
    """Three services, of which nothing runs: what is looked at is the same."""
    page = Service(f"web{number}", image, ports=(Port(8000),))
    store = Service(f"db{number}", image, expose=(5432,), volumes=(VolumeMount("/data", "volume", "data"),))
    services = {item.name: item for item in (page, store, Service(f"worker{number}", image))}
    images = {name: {"reference": image, "digest": ""} for name in services}
    model = Project(f"app{number}", services, ("data",))
    return Wanted(Release(1, model, images, f"{number}", "active", now(), "ada"), dict.fromkeys(services, 0))


async def test_looking_at_all_apps(bench: Bench) -> None:
    await bench.client.apply(namespace_manifest(bench.project, bench.namespace))
    apps = {AppRef(bench.project, f"app{number}"): wanted(bench.image, number) for number in range(APPS)}
    places = asyncio.Semaphore(AT_ONCE)

    async def apply(obj: Object) -> None:
        async with places:
            await bench.client.apply(obj)

    setting = bench.setting
    await asyncio.gather(*(apply(obj) for ref, one in apps.items() for obj in manifests(ref, one, setting)))
    for name in ("first", "next"):
        began, sent = time.monotonic(), bench.client.requests
        sound = await bench.engine.sound(apps)
        seconds, requests = time.monotonic() - began, bench.client.requests - sent
        print(f"{name}: {len(sound)} of {len(apps)} apps in {seconds:.2f} s by {requests} requests")
        assert set(sound) == set(apps)
        assert requests < REQUESTS
    # After the start nothing is asked and nothing compared.
    assert requests == 0
