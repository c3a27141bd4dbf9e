"""Where work can run besides this machine: Kubernetes clusters that were added, and which projects use them.

``clusters`` keeps the records (the kubeconfig sealed) and one open client for each cluster; ``nodes`` says what a
cluster consists of, ``health`` whether one answers and for how long it has not. What runs there is the business of
builds and engines, which get their clients from here.
"""

from slipway.fleet.clusters import Clusters
from slipway.fleet.health import ClusterWatch, Health
from slipway.fleet.nodes import NodeFacts, Resources
from slipway.fleet.records import Binding, ClusterDetail, ClusterRecord

__all__ = [
    "Binding",
    "ClusterDetail",
    "ClusterRecord",
    "ClusterWatch",
    "Clusters",
    "Health",
    "NodeFacts",
    "Resources",
]
