"""Builds and nodes that take no Pods, start none or lose what runs there; and limits of disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from slipway.testing.kubernetes import Cluster, LocalCluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_builds import (
    NAMESPACE,
    PROJECT,
    build,
    log,
    node,
    only,
    pods,
    running_builds,
    write,
)  # fmt: skip
from slipway.testing.platform import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_stays"), pytest.mark.timeout(580)]

# The kubelet's words.
PRESSURE = (
    "The node was low on resource: ephemeral-storage. Container worker was using 1586092Ki, which exceeds its request "
    "of 1Gi. "
)
LIMIT = "Pod ephemeral local storage usage exceeds the total limit of containers 4Gi. "


def nodes_of(cluster: Cluster) -> set[str]:
    return {item["spec"].get("nodeName", "") for item in pods(cluster)} - {""}


def evict(cluster: Cluster, message: str) -> None:
    """What a kubelet does to the status of the one build's Pod; filling a disk takes minutes."""
    (found,) = pods(cluster)
    found["status"] = {"phase": "Failed", "reason": "Evicted", "message": message}
    # Nothing is compared: the status may have been written since.
    del found["metadata"]["resourceVersion"]
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{found['metadata']['name']}/status"
    cluster.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(found).encode())


@contextmanager
def no_network(cluster: LocalCluster, name: str) -> Iterator[None]:
    """The node looks well, and no Pod gets an address there."""
    cluster.on_node(name, "mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/run/cni")
    try:
        yield
    finally:
        cluster.on_node(name, "umount", "/run/cni")


def test_builds_go_to_no_node_that_is_cordoned(
    platform: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", "FROM debian:bookworm\nRUN echo made; sleep 3\n")
    cordoned, nodes = local_cluster.nodes[0], set[str]()
    local_cluster.kubectl("cordon", cordoned)
    try:
        with ThreadPoolExecutor() as pool:
            tasks = [
                pool.submit(build, platform, source, f"cordoned:{number}", "--no-cache")
                for number in range(3)
            ]

            def done() -> bool:
                nodes.update(nodes_of(local_cluster))
                return all(task.done() for task in tasks)

            until(done, "the builds have ended")
            assert all("succeeded" in task.result() for task in tasks)
    finally:
        local_cluster.kubectl("uncordon", cordoned)
    assert nodes
    assert cordoned not in nodes


def test_a_build_that_its_node_has_no_disk_for_goes_on_also_where_there_is_no_other_node(
    platform: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", "FROM debian:bookworm\nRUN echo begun; sleep 8; echo made > /made\n")
    single = local_cluster.nodes[1]
    with only(local_cluster, single), ThreadPoolExecutor() as pool:
        task = pool.submit(build, platform, source, "pressed:1", "--no-cache")
        assert node(local_cluster) == single
        evict(local_cluster, PRESSURE)
        said = task.result()
    assert f"the Pod was ended by {single}: Evicted: The node was low on resource" in said
    assert "the build is started again elsewhere" in said
    assert "succeeded" in said


def test_a_build_above_its_limit_of_disk_fails_and_says_so(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "large", "FROM debian:bookworm\nRUN head -c 1500000000 /dev/zero > /x; sleep 600\n"
    )
    platform.command("project", "build-policy", PROJECT, "--disk", "400m")
    try:
        said = build(platform, source, "large:1", "--no-cache", ok=False)
    finally:
        platform.command("project", "build-policy", PROJECT, "--reset")
    assert "wrote more than its limit of" in said
    assert "raise build.disk" in said
    sleeps = write(tmp_path / "sleeps", "FROM debian:bookworm\nRUN sleep 600\n")
    with ThreadPoolExecutor() as pool:
        task = pool.submit(build, platform, sleeps, "sleeps:1", ok=False)
        node(cluster)
        evict(cluster, LIMIT)
        said = task.result()
    assert f"the build wrote more than its limit of disk: {LIMIT.strip()}" in said
    assert "started again" not in said


def test_a_build_leaves_a_node_that_starts_nothing_and_the_next_does_not_go_there(
    platform: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", "FROM debian:bookworm\nRUN echo made > /made\n")
    broken = local_cluster.nodes[2]
    with no_network(local_cluster, broken), ThreadPoolExecutor() as pool:
        with only(local_cluster, broken):
            task = pool.submit(build, platform, source, "broken:1", "--no-cache")
            until(lambda: nodes_of(local_cluster) == {broken}, "the Pod has a node", 60)
        (found,) = running_builds(platform)
        until(lambda: "FailedCreatePodSandBox" in log(platform, found), "the log says what is wrong")
        said = task.result()
        assert "the worker has not started, and nothing went on for 60 s: FailedCreatePodSandBox" in said
        assert f"on {broken}; the build is started again elsewhere" in said
        assert "succeeded" in said
        for number in range(3):
            said = build(platform, source, f"next:{number}", "--no-cache")
            assert "succeeded" in said
            assert "waiting" not in said, "a node that did not start one is not tried by the next"
