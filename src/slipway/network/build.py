"""The network of build workers: out to the world, not to each other, no names."""

from __future__ import annotations

import asyncio
from pathlib import Path

from slipway.network.networks import Networks

NAME = "slipway-build"
_HOST_RESOLVER = Path("/etc/resolv.conf")
_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")


class BuildNetwork:
    """Attaches a worker's network namespace for the length of its build.

    The first build makes the bridge and its rules, which then stay until ``Networks.down``; every other one costs a
    pair of devices.
    """

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._making = asyncio.Lock()

    async def prepare(self) -> None:
        """Make the bridge now, so that the first build need not wait for it. Idempotent."""
        async with self._making:
            await self._networks.ensure(NAME, names=False)
            await self._networks.hold(NAME)

    async def attach(self, netns: Path, build_id: str) -> str:
        """Connect; returns the text of the worker's resolv.conf."""
        await self.prepare()
        await self._networks.plug(netns, NAME, build_id)
        return resolver_text()

    async def detach(self, netns: Path, build_id: str) -> None:
        """Idempotent; the worker and its namespace may be gone."""
        await self._networks.detach(netns, NAME, build_id)


def resolver_text(files: tuple[Path, ...] = (_HOST_RESOLVER, _UPSTREAM)) -> str:
    """The host's name servers, without those on its loopback, which a container cannot reach."""
    for path in files:
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            continue
        kept = [line for line in lines if not line.startswith(("nameserver 127.", "nameserver ::1"))]
        if any(line.startswith("nameserver") for line in kept):
            return "\n".join(kept) + "\n"
    return ""
