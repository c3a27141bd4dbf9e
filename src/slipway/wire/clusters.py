"""Kubernetes clusters."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from slipway.wire.base import Answer, Request


class NewCluster(Request):
    """``kubeconfig`` is complete in itself: what it names by path or gets from a program is refused.

    ``in_cluster`` instead of one: the cluster that the server itself runs in, by its own account.
    """

    name: str
    kubeconfig: str = Field(default="", repr=False, max_length=1024 * 1024)
    context: str = Field(default="", description="empty: its current-context")
    namespace_prefix: str = Field(default="slipway-", description="of the namespaces of apps there")
    in_cluster: bool = False


class BindCluster(Request):
    weight: int = Field(
        default=1, ge=0, le=1000, description="its share of the project's work; 0: nothing new"
    )


class ClusterBinding(Answer):
    cluster: str
    project: str
    weight: int


class NodeResources(Answer):
    """``cpus`` in cores, ``memory`` and ``disk`` in bytes."""

    cpus: float
    memory: int
    disk: int
    pods: int


class ClusterNode(Answer):
    name: str
    ready: bool
    reason: str
    cordoned: bool
    pressure: list[str]
    roles: list[str]
    address: str
    platform: str
    version: str
    runtime: str
    kernel: str
    capacity: NodeResources
    allocatable: NodeResources


class Cluster(Answer):
    """``state``: ready, degraded, away. ``usable``: on all nodes that take new work."""

    name: str
    server: str
    version: str
    namespace_prefix: str = ""
    state: str
    error: str
    warnings: list[str]
    nodes_ready: int
    nodes_total: int
    usable: NodeResources
    projects: list[ClusterBinding]
    created: datetime


class ClusterDetail(Cluster):
    nodes: list[ClusterNode]
