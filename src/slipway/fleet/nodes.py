"""What a cluster's nodes are and how they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway.errors import Invalid
from slipway.kubernetes.quantities import quantity

_ROLE = "node-role.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Resources:
    """``cpus`` in cores; ``memory`` and ``disk`` (ephemeral storage) in bytes."""

    cpus: float = 0
    memory: int = 0
    disk: int = 0
    pods: int = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Resources:
        """From a node's ``capacity`` or ``allocatable``; what is not said, or makes no sense, is 0."""
        cpus, *others = (_amount(values.get(key)) for key in ("cpu", "memory", "ephemeral-storage", "pods"))
        return cls(round(cpus, 3), *map(int, others))

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            round(self.cpus + other.cpus, 3), self.memory + other.memory, self.disk + other.disk,
            self.pods + other.pods,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """``pressure``: the troubles it reports, e.g. ``memory``. ``reason``: why it is not ready."""

    name: str
    ready: bool
    reason: str
    cordoned: bool
    pressure: tuple[str, ...]
    roles: tuple[str, ...]
    address: str
    platform: str
    version: str
    runtime: str
    kernel: str
    capacity: Resources
    allocatable: Resources

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> NodeFacts:
        metadata, spec, status = (node.get(key) or {} for key in ("metadata", "spec", "status"))
        info = status.get("nodeInfo") or {}
        conditions = {item.get("type"): item for item in status.get("conditions") or ()}
        ready = conditions.get("Ready") or {}
        addresses = {item.get("type"): item.get("address") for item in status.get("addresses") or ()}
        is_ready = ready.get("status") == "True"
        return cls(
            name=str(metadata.get("name") or ""),
            ready=is_ready,
            reason="" if is_ready else str(ready.get("message") or "it has not reported yet")[:300],
            cordoned=bool(spec.get("unschedulable")),
            pressure=tuple(sorted(_troubles(conditions))),
            roles=tuple(
                sorted(
                    key.removeprefix(_ROLE) for key in metadata.get("labels") or {} if key.startswith(_ROLE)
                )
            ),
            address=str(addresses.get("InternalIP") or addresses.get("Hostname") or ""),
            platform=f"{info.get('operatingSystem', '?')}/{info.get('architecture', '?')}",
            version=str(info.get("kubeletVersion") or ""),
            runtime=str(info.get("containerRuntimeVersion") or ""),
            kernel=str(info.get("kernelVersion") or ""),
            capacity=Resources.of(status.get("capacity") or {}),
            allocatable=Resources.of(status.get("allocatable") or {}),
        )

    @property
    def usable(self) -> bool:
        """Whether new work is put there."""
        return self.ready and not self.cordoned


def _troubles(conditions: Mapping[Any, Mapping[str, Any]]) -> list[str]:
    """``MemoryPressure`` → ``memory``; every condition but Ready is a trouble when it is true."""
    return [
        str(kind).removesuffix("Pressure").removesuffix("Unavailable").lower()
        for kind, item in conditions.items()
        if kind != "Ready" and item.get("status") == "True"
    ]


def _amount(value: Any) -> float:
    try:
        return float(quantity(value)) if value is not None else 0.0
    except Invalid:
        return 0.0
