"""Which hosts may be asked: not this machine, and nothing that only this machine or its neighbours reach."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult

from slipway.errors import Denied, Unavailable


@dataclass(frozen=True, slots=True)
class Reach:
    """Networks, in CIDR form, that may be asked: each of ``outside``, without those of ``inside`` that lie in it.

    The same as in a NetworkPolicy, so that what a build may reach by itself is what may be fetched for it.
    """

    outside: Sequence[str] = ("0.0.0.0/0", "::/0")
    inside: Sequence[str] = ()

    def has(self, address: str) -> bool:
        found = _plain(address)
        return any(
            found in ipaddress.ip_network(block)
            and not any(found in ipaddress.ip_network(part) for part in within(block, self.inside))
            for block in self.outside
        )


ANYWHERE = Reach()


def within(block: str, parts: Sequence[str]) -> list[str]:
    """Those of ``parts`` that lie in ``block``."""
    whole = ipaddress.ip_network(block)
    found = [ipaddress.ip_network(part) for part in parts]
    return [str(part) for part in found if part.version == whole.version and part.subnet_of(whole)]  # type: ignore[arg-type]


async def check_host(host: str, port: int, reach: Reach = ANYWHERE) -> list[str]:
    """The host's addresses, all of them allowed. Raises ``Denied`` for others, ``Unavailable`` for an unknown name."""
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"the host {host!r} is not known: {error}", hint="is the name right?") from error
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    for address in addresses:
        if not is_allowed(address):
            raise Denied(
                f"{host} is at {address}, which the server asks for nobody",
                hint="loopback and link-local addresses are the server's own",
            )
        if not reach.has(address):
            raise Denied(
                f"{host} is at {address}, which builds here may not reach",
                hint="an administrator may open its network with the setting kubernetes.egress",
            )
    return addresses


class CheckedResolver(AbstractResolver):
    """The addresses that were checked are the ones that are asked: a name cannot change its mind in between."""

    def __init__(self, reach: Reach = ANYWHERE) -> None:
        self._reach = reach

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        addresses = await check_host(host, port, self._reach)
        return [
            ResolveResult(hostname=host, host=item, port=port, family=_family(item), proto=0, flags=0)
            for item in addresses
        ]

    async def close(self) -> None:
        pass


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def is_allowed(address: str) -> bool:
    found = _plain(address)
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Without its zone, and as IPv4 where it is one in IPv6's clothes."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped if mapped is not None else found
