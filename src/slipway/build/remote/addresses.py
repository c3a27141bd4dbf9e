"""Which hosts may be asked: not this machine, and nothing that only this machine reaches."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

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
                f"{host} is at {address}, which builds may not fetch from",
                hint="loopback and link-local addresses are the server's own",
            )
    return addresses


def is_allowed(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped if mapped is not None else found
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)
