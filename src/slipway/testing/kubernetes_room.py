"""What the nodes of a cluster have, and what the Pods there ask of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping

from slipway.testing.kubernetes.cluster import Cluster

_UNITS = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "k": 1e3, "M": 1e6, "G": 1e9, "m": 1e-3}
_COUNTED = ("cpu", "memory")


def room(cluster: Cluster, wants: Mapping[str, float]) -> int:
    """How many Pods that each ask for ``wants`` (``cpu`` in CPUs, ``memory`` in bytes) fit beside what is there."""
    asked, found = requested(cluster), 0
    for node in cluster.get("nodes"):
        there, taken = node["status"]["allocatable"], asked[node["metadata"]["name"]]
        found += max(0, int(min((amount(there[what]) - taken[what]) / wants[what] for what in wants)))
    return found


def overloaded(cluster: Cluster) -> set[str]:
    """Nodes whose Pods use or ask for more than they have, or that say they are under pressure."""
    asked, found = requested(cluster), set()
    for node in cluster.get("nodes"):
        name, status = node["metadata"]["name"], node["status"]
        taken = used(cluster, name)
        above = any(
            max(asked[name][what], taken[what]) > amount(status["allocatable"][what]) for what in _COUNTED
        )
        pressed = any(
            item["type"].endswith("Pressure") and item["status"] == "True" for item in status["conditions"]
        )
        if above or pressed:
            found.add(name)
    return found


def used(cluster: Cluster, node: str) -> dict[str, float]:
    """What all Pods of a node together use, as its kubelet says: CPUs, and bytes that cannot be given back."""
    stats = json.loads(cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
    (pods,) = (item for item in stats["node"]["systemContainers"] if item["name"] == "pods")
    return {"cpu": pods["cpu"]["usageNanoCores"] / 1e9, "memory": float(pods["memory"]["workingSetBytes"])}


def requested(cluster: Cluster) -> dict[str, dict[str, float]]:
    """What the Pods of each node ask for."""
    asked: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(_COUNTED, 0.0))
    for pod in cluster.get("pods", "--all-namespaces"):
        if "nodeName" not in pod["spec"] or pod["status"].get("phase") in ("Succeeded", "Failed"):
            continue
        for container in pod["spec"]["containers"]:
            wants = container.get("resources", {}).get("requests", {})
            for what in _COUNTED:
                asked[pod["spec"]["nodeName"]][what] += amount(wants.get(what, "0"))
    return asked


def amount(text: str) -> float:
    """A quantity, as Kubernetes writes it."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)
