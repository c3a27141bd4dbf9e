"""How the nodes and Pods of a cluster reach a platform of this machine.

Those of this machine's cluster reach its bridge, and are told of every registry there. For any other somebody sets

- ``SLIPWAY_TEST_ADDRESS`` to the HOST:PORT by which nodes and Pods reach this machine. They have to reach the next port
  too, since up to two platforms run at a time.
- ``SLIPWAY_TEST_CERTIFICATE`` and ``SLIPWAY_TEST_KEY`` to the PEM files of a certificate for HOST that nodes trust, and
  ``SLIPWAY_TEST_CA`` to its authority, unless that is a public one. Without them platforms speak plain HTTP, and nodes
  have to be told that these two registries do.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from slipway.errors import Invalid, Unavailable
from slipway.testing.kubernetes.cluster import Cluster, LocalCluster
from slipway.testing.platform import Running

_ADDRESS = "SLIPWAY_TEST_ADDRESS"
_AT_ONCE = 2
_TLS = ("CERTIFICATE", "KEY", "CA")
NEEDED = (
    f"nodes of the cluster in KUBECONFIG have to reach this machine: set {_ADDRESS}=HOST:PORT, and "
    "SLIPWAY_TEST_CERTIFICATE and SLIPWAY_TEST_KEY where they take no plain HTTP from there"
)


def is_reached_by(cluster: Cluster) -> bool:
    """Whether it is known how."""
    return isinstance(cluster, LocalCluster) or bool(os.environ.get(_ADDRESS))


def let_reach(cluster: Cluster, platform: Running) -> None:
    """Set a platform that does not run yet so that nodes and Pods reach it, as ``platform.registry``.

    Raises ``Invalid`` for an address that is none, and ``Unavailable`` when its ports are in use.
    """
    if isinstance(cluster, LocalCluster):
        platform.variables["SLIPWAY_LISTEN"] = f"{cluster.host_address}:{platform.api_port}"
        cluster.trust_registry(platform.registry)
        return
    host, _, first = os.environ[_ADDRESS].rpartition(":")
    if not host or not first.isdecimal():
        raise Invalid(f"{_ADDRESS} = {os.environ[_ADDRESS]!r}", hint="HOST:PORT, e.g. 192.0.2.7:8443")
    platform.api_port = _unused(int(first))
    tls = {f"SLIPWAY_TLS_{name}": os.environ.get(f"SLIPWAY_TEST_{name}", "") for name in _TLS}
    scheme = "https" if tls["SLIPWAY_TLS_CERTIFICATE"] else "http"
    address = f"{host}:{platform.api_port}"
    platform.variables |= tls | {
        "SLIPWAY_LISTEN": f"0.0.0.0:{platform.api_port}", "SLIPWAY_KUBERNETES_REGISTRY": address,
        "SLIPWAY_KUBERNETES_SERVER": f"{scheme}://{address}",
    }  # fmt: skip


def _unused(first: int) -> int:
    ports = range(first, first + _AT_ONCE)
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended are nobody's
            with suppress(OSError):
                probe.bind(("", port))
                return port
    raise Unavailable(
        f"something listens on the ports {', '.join(map(str, ports))}", hint=f"set {_ADDRESS} to another"
    )
