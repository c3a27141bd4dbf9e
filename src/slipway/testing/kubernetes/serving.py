"""What Services of a cluster say."""

from __future__ import annotations

from slipway.errors import Failed
from slipway.testing.kubernetes.cluster import LocalCluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes.visitor import Visitor


def asked(cluster: LocalCluster, node: str, place: str) -> str:
    """What HOST:PORT answers to a node; empty while it does not."""
    try:
        return cluster.on_node(node, "curl", "-sS", "-m", "2", f"http://{place}/")
    except Failed:
        return ""


def until_says(visitor: Visitor, namespace: str, service: str, port: int, text: str) -> None:
    """A node learns a moment later than everybody else which instances of a Service are ready."""
    address = visitor.cluster.get("service", service, f"--namespace={namespace}")["spec"]["clusterIP"]
    until(lambda: visitor.hears(f"{address}:{port}") == text, f"{service} says {text!r}", 60)
