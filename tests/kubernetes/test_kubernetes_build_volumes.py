"""Cache mounts that outlive their Pods: on a volume of the project's, between nodes where the volume allows that."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slipway.base.ids import new_id
from slipway.testing import kubernetes_builds
from slipway.testing.kubernetes import Cluster, LocalCluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_builds import (
    building_platform,
    log,
    only,
    pods,
    running_builds,
    write,
)
from slipway.testing.platform import Running

PROJECT = f"{kubernetes_builds.PROJECT}-keeping"  # its namespace is of no other tests
NAMESPACE = f"build-slipway-{PROJECT}"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_stays"), pytest.mark.timeout(900)]


def build(platform: Running, source: str, tag: str, project: str = PROJECT) -> str:
    return kubernetes_builds.build(platform, source, tag, "--project", project)


@contextmanager
def keeping_platform(cluster: Cluster, directory: Path, **variables: str) -> Iterator[Running]:
    with building_platform(cluster, directory, None, **variables) as platform:
        platform.command("project", "create", PROJECT)
        platform.command("cluster", "bind", "test", "--project", PROJECT)
        try:
            yield platform
        finally:
            for claim in claims(cluster):
                name = claim["metadata"]["name"]
                cluster.kubectl(
                    "delete", "persistentvolumeclaim", name, f"--namespace={NAMESPACE}", "--wait=false"
                )


def keeping(directory: Path, what: str, mount: str = "") -> str:
    return write(
        directory, f"FROM debian:bookworm\nRUN --mount=type=cache,target=/kept{mount} {what}\n"
    )  # fmt: skip


def claims(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.get("persistentvolumeclaims", f"--namespace={NAMESPACE}")
    return found


@pytest.fixture(scope="module")
def alone(reaching_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A platform whose volumes are one Pod's at a time."""
    directory = tmp_path_factory.mktemp("volumes") / "platform"
    with keeping_platform(reaching_cluster, directory, SLIPWAY_KUBERNETES_CACHE_VOLUME="1g") as found:
        yield found


def test_what_is_kept_is_there_on_another_node(
    alone: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    build(alone, keeping(tmp_path / "a", "echo of the first > /kept/word; ls -ln /kept"), "kept:1")
    (claim,) = claims(local_cluster)
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    with only(local_cluster, "node-2"):
        said = build(alone, keeping(tmp_path / "b", "cat /kept/word; stat -c '%u %a' /kept"), "kept:2")
    assert "of the first" in said
    assert "0 755" in said, "ids are the step's own, whichever Pod wrote them"


def test_one_pod_at_a_time_has_the_volume(alone: Running, cluster: Cluster, tmp_path: Path) -> None:
    build(alone, keeping(tmp_path / "a", "echo of the first > /kept/word", ",id=b"), "kept:1")
    other = write(tmp_path / "plain", "FROM debian:bookworm\nRUN ls /cache /work 2>&1; echo p''lain\n")
    holding = keeping(tmp_path / "hold", "echo ho''lds; sleep 600; true", ",id=b")
    process = alone.start_command(
        "build", holding, "-t", "kept:3", "--builder", "kubernetes", "--project", PROJECT
    )
    with process:
        until(lambda: bool(running_builds(alone)), "it runs", 60)
        (found,) = running_builds(alone)
        until(lambda: "holds" in log(alone, found), "its step runs", 120)
        (pod,) = pods(cluster, NAMESPACE)
        assert any("persistentVolumeClaim" in item for item in pod["spec"]["volumes"])
        said = build(
            alone, keeping(tmp_path / "c", "test ! -e /kept/word && echo em''pty", ",id=b"), "kept:4"
        )
        assert "in use by another build: this build begins with empty ones" in said
        assert "empty" in said
        said = build(alone, other, "kept:5")
        assert "plain" in said
        assert "begins with empty ones" not in said
        assert "cannot access '/cache'" in said, "a RUN sees no volume, only what it mounts"
        alone.command("builds", "cancel", found)
        process.communicate(timeout=60)


def test_another_projects_builds_have_another_volume(
    alone: Running, cluster: Cluster, tmp_path: Path
) -> None:
    other = f"{PROJECT}-not"
    home = ("get", "namespace", f"build-slipway-{other}")
    alone.command("project", "create", other)
    alone.command("cluster", "bind", "test", "--project", other)
    try:
        build(alone, keeping(tmp_path / "a", "echo of demo > /kept/word", ",id=same"), "kept:1")
        foreign = keeping(tmp_path / "b", "test ! -e /kept/word && echo em''pty", ",id=same")
        said = build(alone, foreign, "kept:1", other)
        assert "empty" in said
        alone.command("project", "rm", other)
        until(lambda: not cluster.kubectl(*home, "--ignore-not-found"), "it left nothing", 120)
        assert claims(cluster), "what other projects keep stays"
    finally:
        cluster.kubectl("delete", *home[1:], "--wait=false", "--ignore-not-found")


@pytest.fixture
def shared_class(local_cluster: LocalCluster) -> Iterator[str]:
    """A storage class with one volume that all nodes see and may mount at the same time."""
    name = f"shared-{new_id()}"
    path = Path("/tmp/hostpath_pv") / name
    path.mkdir(parents=True)
    local_cluster.apply(
        {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": name,
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": str(path)},
            },
        }
    )  # fmt: skip
    yield name
    local_cluster.kubectl("delete", "persistentvolume", name, "--wait=false")
    subprocess.run(["rm", "-rf", str(path)], check=True)


def test_pods_of_several_nodes_share_a_volume_and_its_locks(
    local_cluster: LocalCluster, tmp_path: Path, shared_class: str
) -> None:
    variables = {
        "SLIPWAY_KUBERNETES_CACHE_VOLUME": "1g", "SLIPWAY_KUBERNETES_CACHE_CLASS": shared_class,
        "SLIPWAY_KUBERNETES_CACHE_SHARED": "on",
    }  # fmt: skip
    with keeping_platform(local_cluster, tmp_path / "platform", **variables) as platform:
        # Whoever has the directory alone finds nobody else's mark in it; all leave their own in the list.
        what = (
            "test ! -e /kept/busy && touch /kept/busy && sleep 1 && echo {} >> /kept/list && rm /kept/busy && "
            "wc -l < /kept/list"
        )

        def one(number: int) -> str:
            source = keeping(tmp_path / str(number), what.format(number), ",id=l,sharing=locked")
            return build(platform, source, f"locked:{number}")

        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(one, range(3)))
        assert all("succeeded" in said and "begins with empty" not in said for said in found)
        said = build(
            platform, keeping(tmp_path / "last", "sort /kept/list | tr '\\n' ' '", ",id=l"), "locked:9"
        )
        assert "0 1 2" in said
