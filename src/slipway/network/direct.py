"""What we do to devices ourselves, beside netavark.

``connect`` is a quick connection to a bridge that netavark made: a pair of devices, made from within by ``ip`` in one
batch, whose outer end the kernel then takes up at our word. For build workers, which come and go often and need no
names. The ports are isolated: workers reach the bridge's address and beyond, not each other.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

from slipway.base.process import run
from slipway.errors import Failed
from slipway.network import links, netns
from slipway.network.records import PREFIX, Lease, Network, mac_of

LINK_LOCAL = "169.254.0.0/16"


def batch(network: Network, lease: Lease, host: str) -> str:
    """For ``ip -batch`` inside; ``host`` is the path of the host's network namespace."""
    return (
        f"link add {lease.interface} address {lease.mac} type veth peer name {lease.device} netns {host}\n"
        f"address add {lease.address}/{PREFIX} dev {lease.interface}\n"
        f"link set {lease.interface} up\n"
        f"route add default via {network.gateway} dev {lease.interface}\n"
        # Where clouds hand out a machine's credentials to whoever asks from it.
        f"route add unreachable {LINK_LOCAL}\n"
    )


async def connect(network: Network, lease: Lease, path: Path) -> None:
    if not netns.exists(path):
        raise Failed(f"{path} is no network namespace of a worker")
    words = batch(network, lease, f"/proc/{os.getpid()}/ns/net").encode()
    await run(["nsenter", f"--net={path}", "ip", "-batch", "-"], stdin=words)
    try:
        await asyncio.to_thread(links.join, lease.device, network.bridge)
    except OSError as error:  # as when the worker has just ended, and its end of the pair with it
        raise Failed(f"{lease.device} could not be put onto {network.bridge}: {error.strerror}") from error


async def disconnect(device: str) -> None:
    """Idempotent: the pair may have gone with the worker's namespace."""
    with suppress(OSError):
        await asyncio.to_thread(links.delete, device)


async def pin(network: Network) -> None:
    """Give the bridge an Ethernet address of its own.

    Left alone it has that of one of its ports, and another one when that port leaves: all other containers then send
    to a gateway that is not there until they have forgotten it.
    """
    await run(["ip", "link", "set", network.bridge, "address", mac_of(network.gateway)])


def guard(network: Network) -> None:
    """The host's loopback addresses are for the host.

    netavark lets packets for 127.0.0.0/8 in over the bridge, for published ports, which we have the balancer for: a
    container that makes its packets itself would reach whatever listens on the host's loopback.
    """
    Path(f"/proc/sys/net/ipv4/conf/{network.bridge}/route_localnet").write_text("0")


def exists(device: str) -> bool:
    try:
        socket.if_nametoindex(device)
    except OSError:
        return False
    return True
