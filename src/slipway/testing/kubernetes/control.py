"""The cluster's control plane: etcd, API server, controller manager, scheduler and the names server, on the host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from slipway.base import linux
from slipway.testing.kubernetes import groups, identity
from slipway.testing.kubernetes.pki import Authority, write_key
from slipway.testing.kubernetes.site import (
    API,
    API_PORT,
    BINARIES,
    DOMAIN,
    ETCD,
    ETCD_PORT,
    FIRST_SERVICE,
    HOST,
    KUBECONFIG,
    LOGS,
    PKI,
    PODS,
    SERVICES,
)

_ETCD_URL = f"http://127.0.0.1:{ETCD_PORT}"
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")


def prepare() -> Authority:
    """Certificates, keys and kubeconfig files, and a place in memory for etcd's data, which is written all the time."""
    for directory in (LOGS, ETCD):
        directory.mkdir(parents=True, exist_ok=True)
    linux.mount("tmpfs", ETCD, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=2g,mode=700")
    authority = Authority(PKI)
    authority.issue(
        "apiserver", "kube-apiserver", names=[HOST, FIRST_SERVICE, "127.0.0.1", "localhost", *_NAMES]
    )
    authority.issue("apiserver-kubelet", "kube-apiserver", ["system:masters"])
    identity.issue(authority)
    write_key(PKI / "accounts-key.pem")
    authority.kubeconfig(KUBECONFIG, API, "admin", ["system:masters"])
    for name in ("kube-controller-manager", "kube-scheduler"):
        authority.kubeconfig(PKI / f"{name}.kubeconfig", API, f"system:{name}")
    return authority


def start(name: str) -> None:
    """Start one of ``PARTS``, unless it runs."""
    if not groups.pids(name):
        groups.start(name, PARTS[name](), LOGS / f"{name}.log")


def _etcd() -> list[str]:
    peer = f"http://127.0.0.1:{ETCD_PORT + 1}"
    return [
        "etcd", f"--data-dir={ETCD}/data", f"--listen-client-urls={_ETCD_URL}", f"--advertise-client-urls={_ETCD_URL}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        "--logger=zap", "--log-level=warn",
    ]  # fmt: skip


def _apiserver() -> list[str]:
    issuer = f"https://kubernetes.default.svc.{DOMAIN}"
    return [
        f"{BINARIES}/kube-apiserver", f"--advertise-address={HOST}", f"--bind-address={HOST}",
        f"--secure-port={API_PORT}", f"--etcd-servers={_ETCD_URL}", f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
        f"--client-ca-file={PKI}/ca.pem", f"--tls-cert-file={PKI}/apiserver.pem",
        f"--tls-private-key-file={PKI}/apiserver-key.pem", f"--service-account-issuer={issuer}",
        f"--service-account-key-file={PKI}/accounts-key.pem",
        f"--service-account-signing-key-file={PKI}/accounts-key.pem",
        f"--kubelet-client-certificate={PKI}/apiserver-kubelet.pem",
        f"--kubelet-client-key={PKI}/apiserver-kubelet-key.pem", "--kubelet-preferred-address-types=InternalIP",
        # Pods of a node that is gone are given up after seconds.
        "--default-not-ready-toleration-seconds=5", "--default-unreachable-toleration-seconds=5",
        "--profiling=false", "--v=1",
    ]  # fmt: skip


def _controller_manager() -> list[str]:
    own = PKI / "kube-controller-manager.kubeconfig"
    words = [
        f"{BINARIES}/kube-controller-manager", f"--kubeconfig={own}", f"--authentication-kubeconfig={own}",
        f"--authorization-kubeconfig={own}", f"--cluster-cidr={PODS}", "--allocate-node-cidrs=false",
        "--use-service-account-credentials=true", f"--service-account-private-key-file={PKI}/accounts-key.pem",
        f"--root-ca-file={PKI}/ca.pem", f"--cluster-signing-cert-file={PKI}/ca.pem",
        f"--cluster-signing-key-file={PKI}/ca-key.pem", "--leader-elect=false", "--port=0", "--secure-port=0",
        "--node-monitor-period=1s", "--node-monitor-grace-period=8s", "--pod-eviction-timeout=5s",
        "--kube-api-qps=100", "--kube-api-burst=200", "--enable-hostpath-provisioner=true", "--v=1",
    ]  # fmt: skip
    return ["sh", "-c", 'umask 0; exec "$@"', "sh", *words]  # volumes are for every user


def _scheduler() -> list[str]:
    own = PKI / "kube-scheduler.kubeconfig"
    return [
        f"{BINARIES}/kube-scheduler", f"--kubeconfig={own}", f"--authentication-kubeconfig={own}",
        f"--authorization-kubeconfig={own}", "--leader-elect=false", "--port=0", "--secure-port=0",
        "--kube-api-qps=100", "--kube-api-burst=200", "--v=1",
    ]  # fmt: skip


def _own(name: str) -> list[str]:
    return [sys.executable, "-m", f"slipway.testing.kubernetes.{name}"]


PARTS: dict[str, Callable[[], list[str]]] = {
    "etcd": _etcd,
    "apiserver": _apiserver,
    "controller-manager": _controller_manager,
    "scheduler": _scheduler,
    "names-server": lambda: _own("names_server"),
    "policies-server": lambda: _own("policies_server"),
}


def log(name: str) -> Path:
    return LOGS / f"{name}.log"
