"""Which hosts may be asked: not this machine, and nothing that only this machine reaches."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from slipway.errors import Denied, Unavailable


async def check_host(host: str, port: int) -> list[str]:
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
    return addresses


class CheckedResolver(AbstractResolver):
    """The addresses that were checked are the ones that are asked: a name cannot change its mind in between."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        addresses = await check_host(host, port)
        return [
            ResolveResult(hostname=host, host=item, port=port, family=_family(item), proto=0, flags=0)
            for item in addresses
        ]

    async def close(self) -> None:
        pass


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def is_allowed(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped if mapped is not None else found
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)
