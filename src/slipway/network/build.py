"""The network of build workers: out to the world, not to each other's names."""

from __future__ import annotations

from pathlib import Path

from slipway.network.networks import Networks

NAME = "slipway-build"
_HOST_RESOLVER = Path("/etc/resolv.conf")
_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")


class BuildNetwork:
    """Attaches a worker's network namespace for the length of its build."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def attach(self, netns: Path, build_id: str) -> str:
        """Connect; returns the text of the worker's resolv.conf."""
        await self._networks.ensure(NAME, names=False)
        await self._networks.attach(netns, NAME, build_id, [])
        return resolver_text()

    async def detach(self, netns: Path, build_id: str) -> None:
        await self._networks.detach(netns, NAME, build_id)


def resolver_text() -> str:
    """The host's name servers, without those on its loopback, which a container cannot reach."""
    for path in (_HOST_RESOLVER, _UPSTREAM):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        kept = [line for line in lines if not line.startswith(("nameserver 127.", "nameserver ::1"))]
        if any(line.startswith("nameserver") for line in kept):
            return "\n".join(kept) + "\n"
    return ""
