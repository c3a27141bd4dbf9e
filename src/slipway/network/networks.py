"""Bridge networks for apps."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import os
import shlex
import signal
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.base.files import read_json, write_json
from slipway.base.process import CommandFailed, run
from slipway.errors import Exhausted, NotFound, Unavailable
from slipway.network import netns

_PROGRAMS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman", "/usr/bin")
_PREFIX = 24


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
    """Where a container is on a network; ``dns`` answers its names."""

    network: str
    address: str
    gateway: str
    dns: str


def find_program(name: str) -> str:
    for directory in _PROGRAMS:
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    raise Unavailable(f"{name} is not installed", hint=f"apt-get install {name}")


class Networks:
    """All networks of this server, with the addresses that are taken."""

    def __init__(self, data: Path, runtime: Path, pool: str) -> None:
        self._data, self._netns = data / "networks", runtime / "netns"
        self._config = runtime / "netavark"
        self._pool = ipaddress.ip_network(pool)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        for directory in (self._data, self._netns, self._config):
            directory.mkdir(parents=True, exist_ok=True)

    # Networks

    async def ensure(self, name: str, *, names: bool = True) -> Network:
        """The network, recorded if it is new. Its bridge appears with the first container. Idempotent."""
        async with self._locks[""]:
            path = self._path(name)
            if path.exists():
                return _network(read_json(path))
            subnet = await self._free_subnet()
            record = {
                "name": name,
                "bridge": "sw" + self._identity(name)[:10],
                "subnet": str(subnet),
                "gateway": str(subnet[1]),
                "names": names,
                "addresses": {},
            }
            write_json(path, record)
            return _network(record)

    def list(self) -> list[Network]:
        return [_network(read_json(path)) for path in sorted(self._data.glob("*.json"))]

    def get(self, name: str) -> Network:
        return _network(self._read(name))

    async def remove(self, name: str) -> None:
        """Forget the network and take its bridge away. The caller has detached everything. Idempotent."""
        async with self._locks[name]:
            with contextlib.suppress(NotFound):
                record = self._read(name)
                for container in list(record["addresses"]):
                    await self._teardown(record, container, self._netns / container, [])
                await run(["ip", "link", "delete", record["bridge"]], check=False)
                self._path(name).unlink()
                (self._config / "aardvark-dns" / name).unlink(missing_ok=True)

    async def _free_subnet(self) -> ipaddress.IPv4Network:
        taken = [ipaddress.ip_network(network.subnet) for network in self.list()]
        taken += await _host_routes()
        assert isinstance(self._pool, ipaddress.IPv4Network)
        for subnet in self._pool.subnets(new_prefix=_PREFIX):
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
        raise Exhausted(f"no address range is left in {self._pool}", hint="set network.pool to a larger one")

    # Containers on them

    async def create_netns(self, container: str) -> Path:
        path = self._netns / container
        await netns.create(path)
        return path

    async def delete_netns(self, container: str) -> None:
        await asyncio.to_thread(netns.delete, self._netns / container)

    def netns_path(self, container: str) -> Path:
        return self._netns / container

    async def attach(self, path: Path, network: str, container: str, aliases: Sequence[str]) -> Attachment:
        """Connect a namespace; the container answers to ``aliases`` on the network."""
        async with self._locks[network]:
            record = self._read(network)
            address = record["addresses"].get(container) or _free_address(record)
            record["addresses"][container] = address
            # Recorded first: after a kill the address is known to be somebody's until ``recover`` says otherwise.
            write_json(self._path(network), record, durable=False)
            try:
                await self._netavark("setup", record, container, path, aliases)
            except CommandFailed:
                del record["addresses"][container]
                write_json(self._path(network), record, durable=False)
                raise
        return Attachment(network, address, record["gateway"], record["gateway"] if record["names"] else "")

    async def detach(self, path: Path, network: str, container: str) -> None:
        """Idempotent; the namespace may be gone already."""
        async with self._locks[network]:
            with contextlib.suppress(NotFound):
                record = self._read(network)
                if container in record["addresses"]:
                    await self._teardown(record, container, path, [])

    async def _teardown(
        self, record: dict[str, Any], container: str, path: Path, aliases: Sequence[str]
    ) -> None:
        if not path.exists() or not _is_netns(path):
            # netavark wants a namespace to take the container out of; an empty one serves.
            path = self._netns / f"gone-{container}"
            await netns.create(path)
        try:
            await self._netavark("teardown", record, container, path, aliases, check=False)
        finally:
            if path.name.startswith("gone-"):
                await asyncio.to_thread(netns.delete, path)
        del record["addresses"][container]
        write_json(self._path(record["name"]), record, durable=False)

    async def _netavark(
        self,
        verb: str,
        record: dict[str, Any],
        container: str,
        path: Path,
        aliases: Sequence[str],
        check: bool = True,
    ) -> None:
        options = {
            "container_id": container,
            "container_name": container,
            "networks": {
                record["name"]: {
                    "static_ips": [record["addresses"][container]],
                    "interface_name": "eth0",
                    "aliases": [*aliases, container],
                }
            },
            "network_info": {
                record["name"]: {
                    "dns_enabled": record["names"],
                    "driver": "bridge",
                    "id": self._identity(record["name"]),
                    "internal": False,
                    "ipv6_enabled": False,
                    "name": record["name"],
                    "network_interface": record["bridge"],
                    "subnets": [{"gateway": record["gateway"], "subnet": record["subnet"]}],
                    "options": {"isolate": "true"},
                    "ipam_options": {"driver": "host-local"},
                }
            },
            "port_mappings": [],
        }
        argv = [find_program("netavark"), "--config", str(self._config)]
        if record["names"]:
            argv += ["--aardvark-binary", find_program("aardvark-dns")]
        await run([*argv, verb, str(path)], stdin=json.dumps(options).encode(), check=check, timeout=30)

    # Crashes and the end

    async def recover(self, live: Collection[str]) -> None:
        """Release the addresses and namespaces of containers that are not in ``live``."""
        for path in sorted(self._data.glob("*.json")):
            record = read_json(path)
            for container in [item for item in record["addresses"] if item not in live]:
                await self.detach(self._netns / container, record["name"], container)
        for entry in sorted(self._netns.iterdir()):
            if entry.name not in live:
                await asyncio.to_thread(netns.delete, entry)

    async def down(self) -> None:
        """Leave nothing: no bridge, no rule, no name server, no namespace."""
        await self.recover(())
        for network in self.list():
            await self.remove(network.name)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((self._config / "aardvark-dns" / "aardvark.pid").read_text()), signal.SIGTERM)
        if not await _other_rules():
            await _flush_chains()

    def _identity(self, name: str) -> str:
        """Names of kernel objects: two servers on one machine must not share a bridge or a chain."""
        return hashlib.sha256(f"{self._data}\0{name}".encode()).hexdigest()

    def _path(self, name: str) -> Path:
        return self._data / f"{name}.json"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = read_json(self._path(name))
        except FileNotFoundError as error:
            raise NotFound(f"there is no network {name!r}") from error
        return found


def _network(record: dict[str, Any]) -> Network:
    return Network(record["name"], record["bridge"], record["subnet"], record["gateway"], record["names"])


def _free_address(record: dict[str, Any]) -> str:
    """The next address after the last one given out.

    One that has just been given back is taken last: others on the network still remember who had it (ARP), and would
    not reach its new owner for up to a minute.
    """
    taken = set(record["addresses"].values()) | {record["gateway"]}
    hosts = list(ipaddress.ip_network(record["subnet"]).hosts())
    start = record.get("next", 0)
    for offset in range(len(hosts)):
        index = (start + offset) % len(hosts)
        if str(hosts[index]) not in taken:
            record["next"] = index + 1
            return str(hosts[index])
    raise Exhausted(f"the network {record['name']!r} has no address left")


def _is_netns(path: Path) -> bool:
    with open("/proc/self/mountinfo") as handle:
        return path.is_symlink() or any(f" {path} " in line for line in handle) or path.parts[1] == "proc"


async def _host_routes() -> list[ipaddress.IPv4Network]:
    done = await run(["ip", "-json", "-4", "route"])
    found = []
    for route in json.loads(done.stdout or b"[]"):
        if route["dst"] != "default":
            found.append(ipaddress.IPv4Network(route["dst"], strict=False))
    return found


async def _other_rules() -> bool:
    """Whether chains of netavark's still serve a network (another program's, then)."""
    done = await run(["iptables", "-t", "nat", "-S"], check=False)
    return any(
        line.startswith("-N NETAVARK-") and "HOSTPORT" not in line
        for line in done.stdout.decode().splitlines()
    )


async def _flush_chains() -> None:
    """Remove the shared chains that netavark leaves when its last network goes."""
    for table in ("nat", "filter"):
        listing = (await run(["iptables", "-t", table, "-S"], check=False)).stdout.decode().splitlines()
        ours = [line for line in listing if "NETAVARK" in line]
        for line in ours:
            if line.startswith("-A ") and not line.startswith("-A NETAVARK"):
                await run(["iptables", "-t", table, "-D", *shlex.split(line)[1:]], check=False)
        chains = [line.split()[1] for line in ours if line.startswith("-N ")]
        for chain in chains:
            await run(["iptables", "-t", table, "-F", chain], check=False)
        for chain in chains:
            await run(["iptables", "-t", table, "-X", chain], check=False)
