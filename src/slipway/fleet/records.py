"""Clusters and their projects, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slipway.fleet.nodes import NodeFacts, Resources


@dataclass(frozen=True, slots=True)
class Binding:
    """A project that uses a cluster. Its work is spread by ``weight``; 0 gets nothing new."""

    cluster: str
    project: str
    weight: int


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """``version`` is what the API server said when it was last seen; ``prefix`` of the namespaces of apps there."""

    name: str
    server: str
    version: str
    created: datetime
    bindings: tuple[Binding, ...] = ()
    prefix: str = "slipway-"


@dataclass(frozen=True, slots=True)
class ClusterDetail:
    """A cluster as it is now. ``error``: why it could not be asked; then ``nodes`` is empty."""

    record: ClusterRecord
    nodes: tuple[NodeFacts, ...] = ()
    error: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """``ready``, ``degraded`` (a node is not ready or under pressure), or ``away``."""
        if self.error:
            return "away"
        well = self.nodes and all(node.ready and not node.pressure for node in self.nodes)
        return "ready" if well else "degraded"

    @property
    def usable(self) -> Resources:
        """What there is for Pods on all nodes that take new ones."""
        return sum((node.allocatable for node in self.nodes if node.usable), Resources())
