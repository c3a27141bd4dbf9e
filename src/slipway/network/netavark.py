"""netavark and aardvark-dns, called the way Podman calls them: JSON in, one container and one network at a time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from slipway.base.process import run
from slipway.errors import Unavailable
from slipway.network import netns, processes
from slipway.network.records import Lease, Network

_PROGRAMS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman", "/usr/bin")
_SECONDS = 30.0
_POLL = 0.01


@functools.cache
def find_program(name: str) -> str:
    for directory in _PROGRAMS:
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    raise Unavailable(f"{name} is not installed", hint=f"apt-get install {name}")


def request(network: Network, container: str, lease: Lease) -> dict[str, Any]:
    """What netavark is told. It knows a network by its bridge's name, which no other server's network has.

    (It derives the names of its chains from a network's name, and files for the name server too: two servers with an
    app of the same name would take each other's rules away.)
    """
    return {
        "container_id": container,
        "container_name": container,
        "networks": {
            network.bridge: {
                "static_ips": [lease.address],
                "static_mac": lease.mac,
                "interface_name": lease.interface,
                "aliases": list(lease.aliases),
            }
        },
        "network_info": {
            network.bridge: {
                "name": network.bridge,
                "id": network.bridge.encode().hex().ljust(64, "0"),
                "driver": "bridge",
                "network_interface": network.bridge,
                "subnets": [{"subnet": network.subnet, "gateway": network.gateway}],
                "dns_enabled": network.names,
                "internal": False,
                "ipv6_enabled": False,
                "options": {"isolate": "true"},
                "ipam_options": {"driver": "host-local"},
            }
        },
        "port_mappings": [],
    }


class Netavark:
    """The programs with one server's configuration directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names = directory / "aardvark-dns"
        self._turn = asyncio.Lock()

    async def setup(self, network: Network, container: str, lease: Lease, path: Path) -> None:
        await self._call("setup", network, container, lease, path)

    async def teardown(self, network: Network, container: str, lease: Lease, path: Path) -> None:
        """Take a container off a network, also if its namespace has gone. Never fails: ``firewall`` sweeps after it."""
        if netns.exists(path):
            await self._call("teardown", network, container, lease, path, check=False)
            return
        # netavark stops half-way unless it finds the container's device; any device of that name serves.
        stand_in = self._directory / f"gone-{container}"
        await netns.create(stand_in)
        try:
            device = ["ip", "link", "add", lease.interface, "type", "veth", "peer", "name", "gone"]
            await run(["nsenter", f"--net={stand_in}", *device])
            await self._call("teardown", network, container, lease, stand_in, check=False)
        finally:
            netns.delete(stand_in)

    async def _call(
        self, verb: str, network: Network, container: str, lease: Lease, path: Path, check: bool = True
    ) -> None:
        argv = [find_program("netavark"), "--config", str(self._directory)]
        if network.names:
            argv += ["--aardvark-binary", find_program("aardvark-dns")]
        text = json.dumps(request(network, container, lease)).encode()
        self._directory.mkdir(parents=True, exist_ok=True)
        async with self.turn():
            await run([*argv, verb, str(path)], stdin=text, check=check, timeout=_SECONDS)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One at a time in this network namespace, other servers included: netavark's chains are shared, and it does
        not expect others. The lock is an abstract socket, so it belongs to the namespace and ends with its holder."""
        async with self._turn:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
                try:
                    async with asyncio.timeout(_SECONDS):
                        while not _bind(lock):
                            await asyncio.sleep(_POLL)
                except TimeoutError as error:
                    raise Unavailable(
                        f"another server has worked on the networks for {_SECONDS:g} s"
                    ) from error
                yield

    async def settle(self) -> None:
        """Wait for a netavark that a killed server left running."""
        if not await processes.until_gone("netavark", str(self._directory), _SECONDS):
            await processes.end("netavark", str(self._directory), 1)

    # The name server

    @property
    def serving(self) -> list[int]:
        return processes.find("aardvark-dns", str(self._names))

    async def keep_serving(self, networks: list[Network]) -> None:
        """The name server knows exactly ``networks`` and runs, if there are any."""
        wanted = {network.bridge for network in networks}
        if self._names.exists():
            for path in self._names.iterdir():
                if path.name not in wanted and path.name != "aardvark.pid":
                    path.unlink()
        if not wanted:
            await self.stop_serving()
        elif not self.serving:
            program = find_program("aardvark-dns")
            # It puts itself into the background.
            await run([program, "--config", str(self._names), "-p", "53", "run"], timeout=_SECONDS)
        else:
            for pid in self.serving:
                os.kill(pid, signal.SIGHUP)

    async def stop_serving(self) -> None:
        await processes.end("aardvark-dns", str(self._names), 2)

    def remove_files(self) -> None:
        for path in self._directory.glob("gone-*"):
            netns.delete(path)
        shutil.rmtree(self._directory, ignore_errors=True)


def _bind(lock: socket.socket) -> bool:
    try:
        lock.bind("\0slipway-netavark")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
