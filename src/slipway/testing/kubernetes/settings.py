"""The files that a node's daemons read."""

from __future__ import annotations

import json
import os
from typing import Any

from slipway.testing.kubernetes.pki import Authority
from slipway.testing.kubernetes.site import API, DOMAIN, HOST, PAUSE, PKI, PODS, PREFIX, Node

NODE_MEMORY = 7 << 30  # bytes that a node offers to Pods, where the machine has that much
_CONTAINERD = """\
version = 2
root = "{directory}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  max_concurrent_downloads = 6
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{directory}/certs.d"
"""


def write(node: Node, authority: Authority, hosts: str) -> None:
    """Everything that ``node`` needs to start. ``hosts`` is its ``/etc/hosts``."""
    where = node.directory
    for directory in ("log", "cni", "certs.d", "opt", "containerd", "volume-plugins"):
        (where / directory).mkdir(parents=True, exist_ok=True)
    (where / "hosts").write_text(hosts)
    (where / "containerd.toml").write_text(_CONTAINERD.format(directory=where, pause=PAUSE))
    for name, content in (
        ("cni/10-test.conflist", _cni(node)),
        ("kubelet.json", _kubelet()),
        ("proxy.json", _proxy(node)),
    ):
        (where / name).write_text(json.dumps(content, indent=1))
    authority.kubeconfig(where / "kubelet.kubeconfig", API, f"system:node:{node.name}", ["system:nodes"])
    authority.kubeconfig(where / "proxy.kubeconfig", API, "system:kube-proxy")


def _cni(node: Node) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",  # forgotten with the Pods when the node loses its power
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "0.4.0",
        "name": PREFIX,
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(PKI / "ca.pem")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": DOMAIN,
        "clusterDNS": [HOST],
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "systemReserved": {"memory": str(max(memory - NODE_MEMORY, 0))},
        # The disk is the host's and of no concern to the test, and images that were imported stay.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # A node that is gone is noticed after seconds.
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "1m",
        "nodeLeaseDurationSeconds": 8,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 50,
        "kubeAPIBurst": 100,
        "volumeStatsAggPeriod": "5m",
    }


def _proxy(node: Node) -> dict[str, Any]:
    return {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": node.name,
        "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": str(node.directory / "proxy.kubeconfig")},
        "conntrack": {  # these are the host's and stay as they are
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "iptables": {"minSyncPeriod": "200ms", "syncPeriod": "60s"},
    }
