"""Builds as Pods of a real cluster: one Pod for each, gone when it is built, whatever happened."""

from __future__ import annotations

import base64
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
    only,
    pods,
    running_builds,
    write,
)  # fmt: skip
from slipway.testing.platform import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_stays"), pytest.mark.timeout(580)]


@pytest.mark.smoke
def test_a_build_and_its_cache(platform: Running, tmp_path: Path) -> None:
    source = write(
        tmp_path / "source",
        "FROM debian:bookworm\n"
        "RUN date +%N > /moment; cat /proc/self/uid_map\n"
        "COPY text /app/\n"
        "RUN wc -c < /app/text > /size; su nobody -s /bin/sh -c id\n",
        text="some text\n",
    )
    assert "uid=65534(nobody)" in build(platform, source, "web:1")
    second = build(platform, source, "web:2")
    Path(source, "text").write_text("changed\n")
    third = build(platform, source, "web:3")
    assert second.count("CACHED") == 3
    assert third.count("CACHED") == 1
    one, two, three = (platform.json("image", "inspect", f"{PROJECT}/web:{number}") for number in (1, 2, 3))
    assert one["digest"] == two["digest"] != three["digest"]
    assert one["signed"] is True
    assert any(item.startswith("pkg:deb/debian/libc6@") for item in three["packages"])


@pytest.mark.smoke
def test_another_node_finds_the_cache(platform: Running, local_cluster: LocalCluster, tmp_path: Path) -> None:
    dockerfile = "FROM debian:bookworm\nRUN date +%N > /moment\nCOPY text /\nRUN wc -c < /text > /size\n"
    source = write(tmp_path / "source", dockerfile, text="some text\n")
    with only(local_cluster, "node-1"):
        assert "succeeded" in build(platform, source, "found:1")
    Path(source, "text").write_text("changed\n")
    with only(local_cluster, "node-2"):
        assert build(platform, source, "found:2").count("CACHED") == 1


@pytest.mark.smoke
def test_the_pod_is_unprivileged_and_no_step_sees_a_credential(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    look = (
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/maps 2>&1 | tr '\\0' '\\n'; "
        "for p in /proc/[0-9]*; do ls -R $p/root/run $p/cwd/ $p/fd/ 2>&1; "
        "cat $p/root/run/slipway/keys/token 2>&1; done; "
        "cat /run/slipway/keys/token /var/run/secrets/kubernetes.io/serviceaccount/token 2>&1; env; mount; "
        "mount -t tmpfs x /mnt 2>&1; umount /proc 2>&1; mknod /tmp/sda b 8 0 2>&1; chroot /proc/1/root id 2>&1; "
        "cat /proc/self/status /proc/self/uid_map; sleep 4; true"
    )
    source = write(
        tmp_path / "look",
        f"FROM debian:bookworm\nRUN --mount=type=secret,id=given true\nRUN {look}\n",
    )
    (tmp_path / "given").write_text("a-very-secret-value")
    with ThreadPoolExecutor() as pool:
        task = pool.submit(build, platform, source, "look:1", "--secret", f"id=given,src={tmp_path}/given")
        until(lambda: bool(pods(cluster)), "there is a Pod")
        (pod,) = pods(cluster)
        (secret,) = cluster.get("secrets", f"--namespace={NAMESPACE}", "--selector=slipway/role=build-worker")
        seen = task.result()
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"]["privileged"] is False
    assert spec["containers"][0]["securityContext"]["capabilities"]["add"] == ["CHOWN", "SETGID", "SETUID"]
    assert not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    assert spec["activeDeadlineSeconds"] <= 3700
    token = base64.b64decode(secret["data"]["token"]).decode()
    assert len(token) > 30
    assert token not in seen
    assert "a-very-secret-value" not in seen
    assert seen.count("Permission denied") > 5
    assert "uid=0(root)" not in seen
    policy = cluster.get("networkpolicy", "slipway-builds", f"--namespace={NAMESPACE}")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not policy["spec"].get("ingress")


def test_a_cancelled_build_is_gone_at_once(platform: Running, cluster: Cluster, tmp_path: Path) -> None:
    source = write(tmp_path / "sleep", "FROM debian:bookworm\nRUN echo begun; sleep 1000\n")
    process = platform.start_command("build", source, "-t", "sleep:1", "--builder", "kubernetes")
    with process:
        node(cluster)
        until(lambda: bool(running_builds(platform)), "the build runs")
        (found,) = running_builds(platform)
        until(lambda: "begun" in log(platform, found), "the step runs")
        platform.command("builds", "cancel", found)
        until(lambda: not left(cluster), "the Pod is gone")
        process.communicate(timeout=30)
    assert process.returncode


def test_ten_at_once_are_spread_and_all_finish(platform: Running, cluster: Cluster, tmp_path: Path) -> None:
    nodes: set[str] = set()

    def one(number: int) -> str:
        source = write(
            tmp_path / str(number), f"FROM debian:bookworm\nRUN echo {number} > /number; sleep 3\n"
        )
        return build(platform, source, f"many:{number}")

    with ThreadPoolExecutor(10) as pool:
        tasks = [pool.submit(one, number) for number in range(10)]
        while not all(task.done() for task in tasks):
            nodes |= {item["spec"].get("nodeName", "") for item in pods(cluster)} - {""}
            time.sleep(0.5)
        for task in tasks:
            assert "succeeded" in task.result()
    assert len(nodes) >= min(3, len(cluster.open_nodes()))


def test_an_image_that_cannot_be_pulled_is_said_and_idle_workers_are_used(
    reaching_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = reaching_cluster
    source = write(tmp_path / "source", "FROM debian:bookworm\nRUN echo made\n")
    nowhere = "127.0.0.1:9"
    with building_platform(cluster, tmp_path / "platform", SLIPWAY_KUBERNETES_REGISTRY=nowhere) as broken:
        said = build(broken, source, "web:1", ok=False)
    tried = set(re.findall(r"image cannot be pulled on (\S+):", said))
    assert len(tried) == min(2, len(cluster.open_nodes())), "another node was tried"
    assert nowhere in said
    with building_platform(
        cluster,
        tmp_path / "platform2",
        SLIPWAY_KUBERNETES_IDLE_WORKERS="1",
        SLIPWAY_KUBERNETES_IDLE_SECONDS="30",
    ) as platform:
        build(platform, source, "web:1")
        until(lambda: len(pods(cluster)) == 1, "one waits")
        (waits,) = pods(cluster)
        until(lambda: pods(cluster)[0]["status"]["phase"] == "Running", "it runs")

        def is_used() -> bool:
            """It may not have come in yet when a build begins, which then has another."""
            assert "succeeded" in build(platform, source, "web:2")
            return all(item["metadata"]["name"] != waits["metadata"]["name"] for item in pods(cluster))

        until(is_used, "the one that waited has a build")
        until(lambda: not left(cluster), "after a while nobody waits")
