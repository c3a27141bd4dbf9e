"""What Services of this machine's cluster say."""

from __future__ import annotations

from slipway.errors import Failed
from slipway.testing.kubernetes.cluster import LocalCluster
from slipway.testing.kubernetes.objects import until


def asked(cluster: LocalCluster, node: str, place: str) -> str:
    """What HOST:PORT answers to a node; empty while it does not."""
    try:
        return cluster.on_node(node, "curl", "-sS", "-m", "2", f"http://{place}/")
    except Failed:
        return ""


def until_says(cluster: LocalCluster, namespace: str, service: str, port: int, text: str) -> None:
    """A node learns a moment later than everybody else which instances of a Service are ready."""
    address = cluster.get("service", service, f"--namespace={namespace}")["spec"]["clusterIP"]
    until(lambda: asked(cluster, "node-1", f"{address}:{port}") == text, f"{service} says {text!r}", 60)
