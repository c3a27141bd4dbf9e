"""Many apps with nothing to do cost next to nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.delivery import AppRef
from slipway.engines.kubernetes import manifests, namespace_manifest
from slipway.engines.kubernetes.objects import Object
from slipway.testing.kubernetes import LocalCluster
from slipway.testing.kubernetes_apps import Bench, opened_bench, resting_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
APPS = int(os.environ.get("SLIPWAY_TEST_APPS", "60"))
REQUESTS = 200
AT_ONCE = 16


@pytest.fixture
async def bench(local_cluster: LocalCluster, busybox: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(local_cluster, busybox, tmp_path) as opened:
        yield opened


async def test_looking_at_all_apps(bench: Bench) -> None:
    await bench.client.apply(namespace_manifest(bench.project, bench.namespace))
    apps = {AppRef(bench.project, f"app{number}"): resting_app(bench.image, number) for number in range(APPS)}
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
