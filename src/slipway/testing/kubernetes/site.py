"""Where the test cluster lives on this machine: names, addresses, directories.

One cluster per machine: everything of it carries ``PREFIX`` or is below ``ROOT``, so that what an earlier run left is
found and removed without any record of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VERSION = "1.20.2"
PREFIX = "slipkube"
CACHE = Path("/var/cache/slipway-tests")
BINARIES = CACHE / f"kubernetes-{VERSION}"
ROOT = Path("/var/lib/slipway-test-cluster")
LOCK = Path("/run/slipway-test-cluster.lock")
KUBECONFIG = ROOT / "kubeconfig"
PKI = ROOT / "pki"
LOGS = ROOT / "logs"
NODES = ROOT / "nodes"
ETCD = ROOT / "etcd"
KUBELET = Path("/var/lib/kubelet")  # of every node's own; on the host an empty place to lay them on
CONTAINERD = "/run/containerd/containerd.sock"  # in every node
VOLUMES = Path("/tmp/hostpath_pv")  # fixed in the controller manager's host-path provisioner

BRIDGE = f"{PREFIX}0"
HOST = "10.94.0.1"
HOST_NETWORK = "10.94.0.0/16"
PODS = "10.95.0.0/16"
SERVICES = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"  # of the API server, as Kubernetes wants it
DOMAIN = "cluster.local"
API_PORT = 6443
ETCD_PORT = 24379
API = f"https://{HOST}:{API_PORT}"
MOST_NODES = 200

PAUSE = "slipway.test/pause:1"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster: a network namespace with its processes in a mount and a pid namespace of their own."""

    number: int

    @classmethod
    def named(cls, name: str) -> Node:
        return cls(int(name.removeprefix("node-")))

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def address(self) -> str:
        return f"10.94.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        """The addresses of its Pods."""
        return f"10.95.{self.number}.0/24"

    @property
    def namespace(self) -> str:
        """The network namespace's name for ``ip netns``."""
        return f"{PREFIX}-{self.number}"

    @property
    def link(self) -> str:
        """The host's end of its cable."""
        return f"{PREFIX}-n{self.number}"

    @property
    def group(self) -> str:
        """The control group of all its processes and Pods."""
        return self.name

    @property
    def directory(self) -> Path:
        return NODES / self.name

    @property
    def certs(self) -> Path:
        """containerd's directory of registry host files."""
        return self.directory / "certs.d"
