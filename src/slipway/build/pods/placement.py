"""Which nodes a build's Pod may be on, and which it rather is on. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from slipway.oci import Platform

_HOSTNAME = "kubernetes.io/hostname"
_AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def placement(avoid: Collection[str], alike: Mapping[str, str]) -> dict[str, Any]:
    """What a Pod's ``spec`` says of nodes: it is spread among Pods with the labels ``alike``, rather not on ``avoid``.

    Spreading weighs more than any preference, and a node that nothing starts on has the fewest Pods: with nodes to
    avoid, Pods go where most is free.
    """
    return {
        "nodeSelector": {"kubernetes.io/os": "linux", "kubernetes.io/arch": Platform.host().architecture},
        # A node that is gone keeps nobody waiting.
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0} for key in _AWAY
        ],
        **({"affinity": {"nodeAffinity": _rather_not_on(avoid)}} if avoid else _spread(alike)),
    }


def _spread(alike: Mapping[str, str]) -> dict[str, Any]:
    constraint = {
        "maxSkew": 1, "topologyKey": _HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(alike)},
    }  # fmt: skip
    return {"topologySpreadConstraints": [constraint]}


def _rather_not_on(nodes: Collection[str]) -> dict[str, Any]:
    """Preferred only: where there is no other node, one of them is better than none.

    By label too, since older schedulers look at no field of what is preferred.
    """
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in sorted(nodes)]
    labels = [{"key": _HOSTNAME, "operator": "NotIn", "values": sorted(nodes)}]
    preference = {"matchExpressions": labels, "matchFields": fields}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": preference}]}
