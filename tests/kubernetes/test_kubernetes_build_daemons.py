"""Builds that a Docker daemon does in a Pod: beside the worker, the node's own, or another; for who may use them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway.testing.busybox import BUSYBOX
from slipway.testing.kubernetes import Cluster, LocalCluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_builds import PROJECT, build, building_platform, pods, write
from slipway.testing.platform import Running
from slipway.testing.sandboxes import docker_tar

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("nothing_stays"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]
NAMESPACE = f"docker-slipway-{PROJECT}"


@pytest.fixture(scope="module")
def platform(reaching_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("daemons") / "platform"
    with building_platform(reaching_cluster, directory, {"library/slipway-docker": docker_tar()}) as found:
        yield found


def source(directory: Path, dockerfile: str) -> str:
    found = write(directory, dockerfile, text="some text\n")
    (directory / "busybox").write_bytes(BUSYBOX.read_bytes())
    (directory / "busybox").chmod(0o755)
    return found


def test_docker_in_docker_builds_in_a_pod_and_is_gone(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    platform.command("builder", "add", "inner", "dind", "--cluster", "test", "--project", PROJECT)
    try:
        directory = source(
            tmp_path / "source",
            "FROM scratch\nCOPY busybox /bin/sh\nCOPY text /text\n"
            "RUN /bin/sh -c 'wc -c < /text > /size; echo from the daemon'\n",
        )
        with ThreadPoolExecutor() as pool:
            began = time.monotonic()
            task = pool.submit(build, platform, directory, "inner:1", "--builder", "inner")
            until(lambda: bool(pods(cluster, NAMESPACE)) or task.done(), "there is a Pod", 60)
            assert not task.done(), task.result()
            (pod,) = pods(cluster, NAMESPACE)
            said = task.result()
        print(f"a build by Docker in Docker in a Pod: {time.monotonic() - began:.1f} s")
        assert "from the daemon" in said
        assert "succeeded" in said
        worker, docker = pod["spec"]["containers"]
        assert worker["securityContext"]["privileged"] is False
        assert docker["securityContext"]["privileged"] is True
        found = platform.json("image", "inspect", f"{PROJECT}/inner:1")
        assert found["signed"] is True
        assert (
            platform.command(
                "image", "export", f"{PROJECT}/inner:1", "-o", str(tmp_path / "image.tar")
            ).returncode
            == 0
        )

        failing = source(tmp_path / "failing", "FROM scratch\nCOPY busybox /bin/sh\nRUN exit 9\n")
        said = build(platform, failing, "inner:2", "--builder", "inner", ok=False)
        assert "non-zero code: 9" in said
        secret = source(tmp_path / "secret", "FROM scratch\nCOPY text /\n")
        (tmp_path / "value").write_text("x")
        words = ("--builder", "inner", "--secret", f"id=a,src={tmp_path / 'value'}")
        assert "cannot do --secret" in build(platform, secret, "inner:3", *words, ok=False)
        platform.command("project", "create", "other")
        said = build(platform, directory, "a:1", "--builder", "inner", "--project", "other", ok=False)
        assert "may not use the builder 'inner'" in said
    finally:
        platform.command("builder", "rm", "inner")


def test_a_node_without_docker_says_so(
    platform: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    """Only of these nodes it is known that they have none."""
    platform.command("builder", "add", "node", "socket", "--pod", "--project", PROJECT)
    try:
        directory = source(tmp_path / "source", "FROM scratch\nCOPY text /\n")
        said = build(platform, directory, "node:1", "--builder", "node", ok=False)
        assert "has no Docker daemon: there is no socket at /var/run/docker.sock" in said
        assert "dind or remote" in said
    finally:
        platform.command("builder", "rm", "node")


def test_who_may_not_have_one(platform: Running) -> None:
    done = platform.command("builder", "add", "free", "dind", "--pod", ok=False)
    assert done.returncode
    assert b"name the projects that may use it" in done.stderr
