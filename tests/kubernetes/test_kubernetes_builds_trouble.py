"""What must hold when the cluster that builds run on, or the server that has them run, is in trouble."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway.testing.kubernetes import Cluster, LocalCluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_builds import (
    NAMESPACE,
    PROJECT,
    build,
    building_platform,
    left,
    log,
    node,
    pods,
    running_builds,
    write,
)  # fmt: skip
from slipway.testing.platform import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_stays"), pytest.mark.timeout(580)]


def test_a_build_whose_node_dies_goes_on_elsewhere(
    platform: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "long",
        "FROM debian:bookworm\nRUN echo first > /first\nRUN echo second; sleep 12; echo second > /second\n",
    )
    with ThreadPoolExecutor() as pool:
        task = pool.submit(build, platform, source, "long:1")
        died = node(local_cluster)
        (found,) = running_builds(platform)
        until(lambda: "| second" in log(platform, found), "the second step runs")
        local_cluster.kill_node(died)
        try:
            until(lambda: "started again elsewhere" in log(platform, found), "the build is started again")
            said = task.result()
        finally:
            local_cluster.start_node(died)
            until(lambda: died in local_cluster.ready_nodes(), "the node is back")
    assert (
        "is lost: nothing was heard of it" in said or f"deleted from {died}" in said or "is gone from" in said
    )
    assert "RUN echo first > /first  CACHED" in said
    assert platform.json("image", "inspect", f"{PROJECT}/long:1")["digest"]


def test_too_much_memory_a_mistake_and_a_full_quota_are_said(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    greedy = write(
        tmp_path / "greedy",
        "FROM debian:bookworm\nRUN perl -e '$a = \"x\" x 400_000_000; $b = $a . $a; sleep 1'\n",
    )
    assert "out of memory" in build(platform, greedy, "greedy:1", ok=False)
    failing = write(tmp_path / "failing", "FROM debian:bookworm\nRUN echo last words; exit 9\n")
    said = build(platform, failing, "failing:1", ok=False)
    assert "exit code 9" in said
    assert "last words" in said
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": NAMESPACE},
        "spec": {"hard": {"pods": "0"}},
    }  # fmt: skip
    cluster.apply(quota)
    source = write(tmp_path / "small", "FROM debian:bookworm\nRUN echo made\n")
    with ThreadPoolExecutor() as pool:
        task = pool.submit(build, platform, source, "small:1")
        try:
            until(lambda: bool(running_builds(platform)), "the build runs")
            (found,) = running_builds(platform)
            until(lambda: "quota" in log(platform, found), "the log says what it waits for")
        finally:
            cluster.kubectl("delete", "resourcequota", "none", f"--namespace={NAMESPACE}")
        assert "succeeded" in task.result()


def test_what_a_killed_server_left_is_removed_by_the_next(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    source = write(tmp_path / "left", "FROM debian:bookworm\nRUN sleep 1000\n")
    process = platform.start_command("build", source, "-t", "left:1", "--builder", "kubernetes")
    with process:
        node(cluster)
        platform.kill()
        process.communicate(timeout=30)
    assert left(cluster)
    platform.up()
    until(lambda: not left(cluster), "it is removed")


def test_servers_that_build_in_one_namespace_do_not_cut_each_other_off(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    """Each step is followed by more silence than a connection outlives, so that the next needs a new one."""
    steps = "".join(f"RUN sleep 7; echo {number}\n" for number in range(3))
    long = write(tmp_path / "long", f"FROM debian:bookworm\n{steps}")
    short = write(tmp_path / "short", "FROM debian:bookworm\nRUN echo made\n")
    with building_platform(cluster, tmp_path / "platform") as other:
        with ThreadPoolExecutor() as pool:
            task = pool.submit(build, platform, long, "long:2", "--no-cache")
            node(cluster)
            assert "succeeded" in build(other, short, "short:1")
            assert "succeeded" in task.result()
        assert "succeeded" in build(platform, long, "long:3", "--no-cache")


def test_the_rules_of_builds_come_back(platform: Running, cluster: Cluster, tmp_path: Path) -> None:
    source = write(tmp_path / "source", "FROM debian:bookworm\nRUN echo made\n")
    build(platform, source, "web:1")
    cluster.kubectl("delete", "networkpolicy", "--all", f"--namespace={NAMESPACE}")
    build(platform, source, "web:1")
    policies = cluster.get("networkpolicies", f"--namespace={NAMESPACE}")
    assert len(policies) >= 2
    assert all(item["spec"]["policyTypes"] == ["Ingress", "Egress"] for item in policies)


def test_the_api_server_is_away_for_a_minute(
    platform: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    """A build that runs comes to its end meanwhile, one that begins waits, and neither leaves anything."""
    source = write(tmp_path / "runs", "FROM debian:bookworm\nRUN echo begun; sleep 8; echo made > /made\n")
    later = write(tmp_path / "later", "FROM debian:bookworm\nRUN echo later > /made\n")
    with ThreadPoolExecutor() as pool:
        task = pool.submit(build, platform, source, "runs:1", "--no-cache")
        node(local_cluster)
        (found,) = running_builds(platform)
        until(lambda: "| begun" in log(platform, found), "the step runs")
        local_cluster.stop_api()
        try:
            began = time.monotonic()
            waits = pool.submit(build, platform, later, "later:1")
            assert "succeeded" in task.result()
            time.sleep(max(0.0, began + 60 - time.monotonic()))
            assert not waits.done()
        finally:
            local_cluster.start_api()
        said = waits.result()
    assert "waiting for the cluster: " in said
    assert "the cluster answers again" in said
    assert "succeeded" in said


def test_a_build_whose_pod_is_evicted_goes_on_elsewhere(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", "FROM debian:bookworm\nRUN echo begun; sleep 6; echo made > /made\n")
    with ThreadPoolExecutor() as pool:
        task = pool.submit(build, platform, source, "evicted:1", "--no-cache")
        node(cluster)
        (pod,) = pods(cluster)
        name = pod["metadata"]["name"]
        metadata = {"name": name, "namespace": NAMESPACE}
        # Newer API servers take this version of it, too.
        eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": metadata}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
        cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction).encode())
        said = task.result()
    assert "the build is started again elsewhere" in said
    assert "succeeded" in said


def test_a_build_that_no_node_has_room_for_ends_in_its_time(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", "FROM debian:bookworm\nRUN echo made\n")
    platform.command("project", "build-policy", PROJECT, "--cpus", "4000", "--seconds", "15")
    try:
        said = build(platform, source, "large:1", ok=False)
    finally:
        platform.command("project", "build-policy", PROJECT, "--reset")
    assert re.search(r"no node has room: 0/\d+ nodes are available", said)
    assert "no worker came in within the 15 s that the build has" in said
    assert "raise build.seconds" not in said
