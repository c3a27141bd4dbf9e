"""Builds in Pods where a quota is used up, and workers that wait and are lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway.build.pods import manifests
from slipway.build.pods.builder import Place
from slipway.build.sandbox import Limits
from slipway.testing.kubernetes import Cluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_builds import (
    NAMESPACE,
    PROJECT,
    build,
    building_platform,
    left,
    log,
    pods,
    running_builds,
    write,
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_stays"), pytest.mark.timeout(580)]
ROOMY = f"{PROJECT}-roomy"
OTHER = manifests.namespace_of(ROOMY)


def test_a_quota_keeps_no_slot_from_others_and_who_waits_is_replaced_when_lost(
    reaching_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = reaching_cluster
    source = write(tmp_path / "small", "FROM scratch\nCOPY Dockerfile /\n")
    with building_platform(
        cluster,
        tmp_path / "platform",
        SLIPWAY_KUBERNETES_BUILDS="1",
        SLIPWAY_KUBERNETES_IDLE_WORKERS="1",
        SLIPWAY_KUBERNETES_IDLE_TOTAL="1",
    ) as platform:
        platform.command("project", "create", ROOMY)
        platform.command("cluster", "bind", "test", "--project", ROOMY)
        cluster.apply(manifests.namespace(Place("", PROJECT, Limits(1, 1, 1, 1, 1))))
        quota = {
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": NAMESPACE},
            "spec": {"hard": {"pods": "0"}},
        }  # fmt: skip
        cluster.apply(quota)
        with ThreadPoolExecutor() as pool:
            task = pool.submit(build, platform, source, "small:1", "--no-cache")
            try:
                until(lambda: bool(running_builds(platform)), "the build has its turn")
                (found,) = running_builds(platform)
                until(lambda: "quota" in log(platform, found), "the log says what it waits for")
                assert "succeeded" in build(platform, source, "small:1", "--project", ROOMY)
                assert not task.done()
            finally:
                cluster.kubectl("delete", "resourcequota", "none", f"--namespace={NAMESPACE}")
            assert "succeeded" in task.result()

        # The one for all that may wait is for the project that built last.
        until(lambda: not left(cluster, OTHER), "the other project's leaves")

        def waiting() -> list[str]:
            return [
                item["metadata"]["name"] for item in pods(cluster) if item["status"].get("phase") == "Running"
            ]

        until(lambda: len(waiting()) == 1, "one waits")
        (lost,) = waiting()
        cluster.kubectl("delete", "pod", lost, f"--namespace={NAMESPACE}")
        until(lambda: len(waiting()) == 1 and waiting() != [lost], "another waits in its place")
