"""Many apps with nothing to do cost next to nothing."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.testing.kubernetes import Cluster
from slipway.testing.kubernetes_apps import Bench, opened_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
APPS = int(os.environ.get("SLIPWAY_TEST_APPS", "60"))
REQUESTS = 200


@pytest.fixture
async def bench(cluster: Cluster, busybox: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(cluster, busybox, tmp_path) as opened:
        yield opened


async def test_reconciling_all_apps(bench: Bench) -> None:
    apps = await bench.rest(APPS)
    for name in ("first", "next"):
        began, sent = time.monotonic(), bench.client.requests
        await bench.deliverer.reconcile()
        seconds, requests = time.monotonic() - began, bench.client.requests - sent
        print(f"{name}: {len(apps)} apps in {seconds:.2f} s by {requests} requests")
        assert set(await bench.engine.sound(apps)) == set(apps)
        assert requests < REQUESTS
    # After the start nothing is asked and nothing compared.
    assert requests == 0
