"""A real Kubernetes cluster of several nodes on one machine, for tests and benchmarks.

Kubernetes itself is compiled once from Debian's source package (``binaries``). etcd and the control plane run on the
host (``control``), each node in namespaces and control groups of its own with its own containerd, kubelet and
kube-proxy (``machine``, ``settings``), on one bridge (``network``). Services have names (``names_server``),
NetworkPolicies are enforced (``policies``), volumes come from a storage class whose directories every node sees, images
from archives or any registry. There is no ingress controller, no load balancer and no metrics server. The host reaches
Pods and Services by address, not by name.

By hand::

    python -m slipway.testing.kubernetes up --nodes 3
    export KUBECONFIG=$(python -m slipway.testing.kubernetes kubeconfig)
    python -m slipway.testing.kubernetes down

There is one such cluster on a machine, and anybody who has its root can use it: ``up`` on a running one adds what is
missing and returns. Everything of it is below ``/var/lib/slipway-test-cluster`` or called ``slipkube…``, and the next
``up`` or ``down`` removes what a killed one left. Logs: ``logs/`` there, and ``nodes/NAME/*.log``.
"""

from slipway.testing.kubernetes.cluster import Cluster, LocalCluster
from slipway.testing.kubernetes.images import busybox_image, image_tar

__all__ = ["Cluster", "LocalCluster", "busybox_image", "image_tar"]
