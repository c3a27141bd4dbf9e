"""The platform's own installation on Kubernetes: what ``slipway install`` prints.

One description of the objects (``manifests``) gives both forms: plain manifests, where every value is filled in, and a
Helm chart, where each value is a place for Helm's. So they cannot differ. Nothing here talks to a cluster.

Neighbours: the command line above; nothing of ours below but ``errors``.
"""

from slipway.install.chart import write_chart
from slipway.install.manifests import CLUSTER_WIDE, Document, as_yaml, documents, policy_version
from slipway.install.values import VALUES, Value, read_values

__all__ = [
    "CLUSTER_WIDE",
    "VALUES",
    "Document",
    "Value",
    "as_yaml",
    "documents",
    "policy_version",
    "read_values",
    "write_chart",
]
