"""The files of /etc that are a container's own: its name, its neighbours and who resolves names for it."""

from __future__ import annotations

from collections.abc import Callable

from slipway.runtime.record import Container

# What must be in the root for them to be mounted over.
STUBS = {"etc/hosts": b"", "etc/hostname": b"", "etc/resolv.conf": b""}


def texts(container: Container, resolver: Callable[[], str]) -> dict[str, str]:
    """By file name. ``resolver`` gives the resolv.conf of a container whose networks know no names."""
    spec = container.spec
    name = spec.hostname or container.id[:12]
    hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    hosts += [f"{address} {name}" for address in container.addresses.values()]
    hosts += [f"{address} {host}" for host, address in spec.extra_hosts]
    resolv = f"nameserver {container.dns}\noptions ndots:0\n" if container.dns else resolver()
    return {"hosts": "\n".join(hosts) + "\n", "hostname": f"{name}\n", "resolv.conf": resolv}
