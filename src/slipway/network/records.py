"""What is known of a network, and whose its addresses are. Values only: no file, no kernel."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from slipway.errors import Exhausted, Invalid

PREFIX = 24
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


@dataclass(frozen=True, slots=True)
class Network:
    """One bridge network. ``names``: whether containers find each other by name on it."""

    name: str
    bridge: str
    subnet: str
    gateway: str
    names: bool


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where a container is on a network; ``dns`` answers its names, empty if nothing does."""

    network: str
    address: str
    gateway: str
    dns: str
    interface: str = "eth0"


@dataclass(frozen=True, slots=True)
class Lease:
    """An address that is somebody's, with what is needed to connect him again after a reboot.

    ``device``: the host's end of a connection made without netavark; empty if netavark made it.
    """

    address: str
    interface: str = "eth0"
    aliases: tuple[str, ...] = ()
    device: str = ""

    @property
    def mac(self) -> str:
        return mac_of(self.address)


@dataclass(frozen=True, slots=True)
class Record:
    """A network and its leases, as ``networks/<name>.json`` holds them."""

    network: Network
    leases: Mapping[str, Lease] = field(default_factory=dict)
    last: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def allocate(
        self, container: str, interface: str = "eth0", aliases: Iterable[str] = (), device: str = ""
    ) -> Record:
        """``container`` gets the first free address after the last one given.

        An address that was given back rests until the others have had their turn: who still talks to its former
        owner does not reach a stranger.
        """
        taken = {self.network.gateway} | {lease.address for lease in self.leases.values()}
        hosts = [str(address) for address in ipaddress.ip_network(self.network.subnet).hosts()]
        start = hosts.index(self.last) + 1 if self.last in hosts else 0
        for address in hosts[start:] + hosts[:start]:
            if address not in taken:
                lease = Lease(address, interface, tuple(aliases), device)
                return replace(self, leases={**self.leases, container: lease}, last=address)
        raise Exhausted(
            f"the network {self.network.name!r} has no address left in {self.network.subnet}",
            hint=f"{len(self.leases)} containers are on it",
        )

    def release(self, container: str) -> Record:
        return replace(self, leases={key: value for key, value in self.leases.items() if key != container})

    def moved(self, subnet: ipaddress.IPv4Network) -> Record:
        """The same network on another range; nobody may be on it."""
        network = replace(self.network, subnet=str(subnet), gateway=str(subnet[1]))
        return replace(self, network=network, leases={}, last="")

    def to_json(self) -> dict[str, Any]:
        network = self.network
        return {
            "name": network.name,
            "bridge": network.bridge,
            "subnet": network.subnet,
            "gateway": network.gateway,
            "names": network.names,
            "labels": dict(self.labels),
            "last": self.last,
            "addresses": {
                key: {
                    "address": lease.address,
                    "interface": lease.interface,
                    "aliases": list(lease.aliases),
                    "device": lease.device,
                }
                for key, lease in self.leases.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Record:
        leases = {}
        for key, found in value["addresses"].items():
            if isinstance(found, str):
                leases[key] = Lease(found)
            else:
                aliases = tuple(found["aliases"])
                leases[key] = Lease(found["address"], found["interface"], aliases, found.get("device", ""))
        network = Network(
            value["name"], value["bridge"], value["subnet"], value["gateway"], bool(value["names"])
        )
        return cls(network, leases, value.get("last", ""), value.get("labels", {}))


def mac_of(address: str) -> str:
    """Of the address alone: whoever gets it next is reached at once, not after stale neighbours expired."""
    return "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is no name for a network", hint="lower-case letters, digits, '.', '_' and '-'"
        )


def check_aliases(aliases: Iterable[str]) -> None:
    """The name server's file is lines of words: an alias must be one."""
    for alias in aliases:
        if not _ALIAS.fullmatch(alias):
            raise Invalid(f"{alias!r} is no name for a container on a network")


def free_subnet(pool: ipaddress.IPv4Network, taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """The first range of the pool that overlaps none of ``taken``."""
    others = list(taken)
    for subnet in pool.subnets(new_prefix=max(PREFIX, pool.prefixlen)):
        if not any(subnet.overlaps(other) for other in others):
            return subnet
    raise Exhausted(f"no address range is left in {pool}", hint="set network.pool to a larger one")
