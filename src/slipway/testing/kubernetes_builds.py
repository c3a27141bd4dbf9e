"""Builds as Pods of the test cluster, by a platform of the test's own: what there is of them, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slipway.base.ids import new_id
from slipway.testing.kubernetes.cluster import Cluster, LocalCluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_reach import let_reach
from slipway.testing.platform import Running

PROJECT = f"test-{new_id()}"  # this run's: other people may have theirs on the cluster
NAMESPACE = f"build-slipway-{PROJECT}"


@contextmanager
def building_platform(
    cluster: Cluster, directory: Path, images: Mapping[str, Path] | None = None, **variables: str
) -> Iterator[Running]:
    """A platform whose ``PROJECT``, which commands are about, builds on the cluster ``test``. ``images`` are put into
    its registry by repository."""
    found = Running.make(directory)
    let_reach(cluster, found)
    found.variables |= {
        "SLIPWAY_PROJECT": PROJECT, "SLIPWAY_BUILD_MEMORY": "512m", "SLIPWAY_BUILD_CPUS": "1",
        "SLIPWAY_BUILD_DISK": "4g", **variables,
    }  # fmt: skip
    found.directory.mkdir(exist_ok=True)
    found.seed_base()
    found.seed_worker()
    for repository, archive in (images or {}).items():
        found.seed(repository, archive)
    found.up()
    try:
        found.command("cluster", "add", "test", "--kubeconfig", str(cluster.kubeconfig))
        found.command("project", "create", PROJECT)
        found.command("cluster", "bind", "test", "--project", PROJECT)
        assert "@sha256:" in found.command("builder", "image").stdout.decode()
        yield found
    finally:
        found.down()


def left(cluster: Cluster, namespace: str = NAMESPACE) -> list[str]:
    """Pods and Secrets of builds that are still there."""
    chosen = "--selector=slipway/role=build-worker"
    return [
        f"{kind} {item['metadata']['name']}"
        for kind in ("pods", "secrets")
        for item in cluster.get(kind, f"--namespace={namespace}", chosen)
    ]


def pods(cluster: Cluster, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """The Pods of builds that nobody has begun to delete."""
    found: list[dict[str, Any]] = cluster.get(
        "pods", f"--namespace={namespace}", "--selector=slipway/role=build-worker"
    )
    return [item for item in found if "deletionTimestamp" not in item["metadata"]]


def node(cluster: Cluster) -> str:
    """Where the one build runs."""
    until(lambda: any(item["status"].get("phase") == "Running" for item in pods(cluster)), "the Pod runs", 60)
    return str(next(i for i in pods(cluster) if i["status"]["phase"] == "Running")["spec"]["nodeName"])


def write(directory: Path, dockerfile: str, **files: str) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (directory / name).write_text(text)
    return str(directory)


def build(platform: Running, source: str, tag: str, *words: str, ok: bool = True) -> str:
    """What the command says; its log and its error."""
    done = platform.command("build", source, "-t", tag, "--builder", "kubernetes", *words, ok=ok)
    return done.stdout.decode() + done.stderr.decode()


def running_builds(platform: Running) -> list[str]:
    return [str(item["id"]) for item in platform.json("builds", "ls") if item["state"] == "running"]


def log(platform: Running, build_id: str) -> str:
    return platform.command("builds", "logs", build_id).stdout.decode()


@contextmanager
def only(cluster: LocalCluster, name: str) -> Iterator[None]:
    """New Pods start on one node."""
    others = [item for item in cluster.nodes if item != name]
    for item in others:
        cluster.kubectl("cordon", item)
    try:
        yield
    finally:
        for item in others:
            cluster.kubectl("uncordon", item)
