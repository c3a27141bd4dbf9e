"""A cluster for the tests in this directory: the one that ``KUBECONFIG`` names, or one of this machine.

A cluster of this machine that ran before is used and left running; else one is started and removed. Somebody's has to
have the image ``SLIPWAY_TEST_IMAGE`` (``busybox:stable``) within reach, a storage class and enforced NetworkPolicies.
Each test asks for no more of it than it needs; what somebody's cluster has not is skipped:

- ``cluster``: an API server.
- ``reaching_cluster``, and ``platform``, which builds there: nodes and Pods that reach platforms of this machine. The
  variables that say how are in ``slipway.testing.kubernetes_reach``.
- ``local_cluster``: nodes and an API server that may be hurt.
- ``hosted_cluster``: nodes that reach everything on this machine, and are reached from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.base.ids import new_id
from slipway.testing.kubernetes import Cluster, LocalCluster, busybox_image
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_builds import PROJECT, building_platform, left
from slipway.testing.kubernetes_reach import NEEDED, is_reached_by
from slipway.testing.platform import Running

IMAGE = "slipway.test/busybox:1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.kubernetes)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    named = os.environ.get("KUBECONFIG")
    if named and Path(named) != LocalCluster().kubeconfig:
        yield Cluster(Path(named))
        return
    local = LocalCluster()
    before = local.is_running()
    local.up()
    yield local
    if not before:
        local.down()


@pytest.fixture(scope="session")
def local_cluster(cluster: Cluster) -> LocalCluster:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("KUBECONFIG names a cluster that is not to be hurt")
    return cluster


@pytest.fixture(scope="session")
def hosted_cluster(cluster: Cluster) -> LocalCluster:
    if not isinstance(cluster, LocalCluster):
        pytest.skip(
            "the cluster in KUBECONFIG would have to reach a database and a bucket of this machine too"
        )
    return cluster


@pytest.fixture(scope="session")
def reaching_cluster(cluster: Cluster) -> Iterator[Cluster]:
    if not is_reached_by(cluster):
        pytest.skip(NEEDED)
    yield cluster
    for item in cluster.get("namespaces"):
        if PROJECT in (name := item["metadata"]["name"]):
            cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def busybox(cluster: Cluster) -> str:
    """An image with busybox that every node can start."""
    if isinstance(cluster, LocalCluster):
        cluster.import_image(busybox_image(IMAGE))
        return IMAGE
    return os.environ.get("SLIPWAY_TEST_IMAGE", "busybox:stable")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace."""
    name = f"test-{new_id()}"
    cluster.kubectl("create", "namespace", name)
    account = ("get", "serviceaccount", "default", f"--namespace={name}", "--output=name")
    until(lambda: bool(cluster.kubectl(*account, ok=False)), "Pods may be created")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def platform(reaching_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Its ``PROJECT`` builds on the cluster."""
    with building_platform(reaching_cluster, tmp_path_factory.mktemp("builds") / "platform") as found:
        yield found


@pytest.fixture
def nothing_stays(reaching_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the builds' namespace, which its module names, is as empty as before."""
    yield
    namespace: str = request.module.NAMESPACE
    until(lambda: not left(reaching_cluster, namespace), "no Pod and no Secret of a build is left")
