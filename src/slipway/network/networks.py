"""Bridge networks for apps and builds, and who is on them."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import ipaddress
import json
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from slipway.base.files import read_json, write_json
from slipway.base.process import run
from slipway.errors import Invalid, NotFound, SlipwayError
from slipway.network import direct, firewall, netns
from slipway.network.netavark import Netavark
from slipway.network.records import (
    Attachment,
    Network,
    Record,
    check_aliases,
    check_name,
    free_subnet,
)

log = logging.getLogger(__name__)
# The container that keeps a network's bridge and rules in being while nobody else is on it.
_ANCHOR = "anchor-"


class Networks:
    """All networks of this server, with the addresses that are taken.

    A lease is written before the kernel is changed and released after: whatever a kill leaves half-made is somebody's,
    and ``recover`` takes it apart when that somebody is not among the living.
    """

    def __init__(self, data: Path, runtime: Path, pool: str) -> None:
        self._data, self._netns = data / "networks", runtime / "netns"
        found = ipaddress.ip_network(pool)
        if not isinstance(found, ipaddress.IPv4Network):
            raise Invalid(f"network.pool is {pool!r}", hint="an IPv4 range such as 10.89.0.0/16")
        self._pool = found
        self._netavark = Netavark(runtime / "netavark")
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._choosing = asyncio.Lock()
        for directory in (self._data, self._netns):
            directory.mkdir(parents=True, exist_ok=True)
        self._records = self._load()

    # Networks

    async def ensure(
        self, name: str, *, names: bool = True, labels: Mapping[str, str] | None = None
    ) -> Network:
        """The network, recorded if it is new. Its bridge appears with the first container. Idempotent."""
        check_name(name)
        async with self._choosing:
            record = self._records.get(name)
            if record is None:
                bridge = "sw" + self._identity(name)[:10]
                await self._clear_leftover(name, bridge)
                subnet = free_subnet(self._pool, await self._taken())
                network = Network(name, bridge, str(subnet), str(subnet[1]), names)
                record = Record(network, labels=dict(labels or {}))
                self._keep(record, durable=True)
        return record.network

    def list(self) -> builtins.list[Network]:
        return [self._records[name].network for name in sorted(self._records)]

    def get(self, name: str) -> Network:
        return self._record(name).network

    async def remove(self, name: str) -> None:
        """Disconnect whoever is on it, take bridge and rules away, forget it. Idempotent."""
        async with self._locks[name]:
            record = self._records.get(name)
            if record is None:
                return
            for container in record.leases:
                await self._leave(name, container, self._netns / container)
            await asyncio.to_thread(netns.delete, self._netns / f"{_ANCHOR}{record.network.bridge}")
            await self._sweep([record.network])
            del self._records[name]
            self._path(name).unlink(missing_ok=True)

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
        """Connect a namespace; the container answers to ``aliases`` on the network, others may share them."""
        check_aliases(aliases)
        async with self._locks[network]:
            record = self._record(network)
            if (
                container in record.leases
            ):  # Half-made before a crash, or made for a namespace before this one.
                await self._leave(network, container, path)
            record = await self._in_a_free_range(network)
            names = tuple(dict.fromkeys((*aliases, container)))
            record = record.allocate(container, self._interface(container), names)
            self._keep(record)
            try:
                await self._netavark.setup(record.network, container, record.leases[container], path)
                direct.guard(record.network)
                if len(record.leases) == 1:
                    await direct.pin(record.network)
            except BaseException:
                await asyncio.shield(self._leave(network, container, path))
                raise
        return _attachment(record, container)

    async def detach(self, path: Path, network: str, container: str) -> None:
        """Idempotent; the namespace may be gone already."""
        async with self._locks[network]:
            record = self._records.get(network)
            if record is not None and container in record.leases:
                await self._leave(network, container, path)

    async def hold(self, network: str) -> None:
        """Keep bridge and rules in being while nobody is on the network, so that ``plug`` finds them."""
        record = self._record(network)
        anchor = f"{_ANCHOR}{record.network.bridge}"
        if anchor not in record.leases or not direct.exists(record.network.bridge):
            await self.attach(await self.create_netns(anchor), network, anchor, ())

    async def plug(self, path: Path, network: str, container: str) -> Attachment:
        """``attach`` without names, in a fraction of its time, on a network that is held. ``detach`` undoes it."""
        async with self._locks[network]:
            device = "swb" + self._identity(f"{network}\0{container}")[:11]
            record = self._record(network).allocate(container, device=device)
            self._keep(record)
        try:
            await direct.connect(record.network, record.leases[container], path)
        except BaseException:
            await asyncio.shield(self.detach(path, network, container))
            raise
        return _attachment(record, container)

    def _interface(self, container: str) -> str:
        return f"eth{sum(container in record.leases for record in self._records.values())}"

    async def _in_a_free_range(self, name: str) -> Record:
        """A network nobody is on moves if its range is somebody else's by now (another bridge, a VPN)."""
        record = self._record(name)
        if not record.leases and not direct.exists(record.network.bridge):
            async with self._choosing:
                subnet, taken = ipaddress.IPv4Network(record.network.subnet), await self._taken(name)
                if any(subnet.overlaps(other) for other in taken):
                    record = record.moved(free_subnet(self._pool, taken))
                    self._keep(record, durable=True)
        return record

    async def _leave(self, name: str, container: str, path: Path) -> None:
        """Undo an attachment, or the half of one. With the last one go the bridge and its rules."""
        record = self._records[name]
        lease = record.leases[container]
        if lease.device:
            await direct.disconnect(lease.device)
        else:
            await self._netavark.teardown(record.network, container, lease, path)
        record = self._records[name].release(container)
        self._keep(record)
        if not record.leases:
            await self._sweep([record.network])

    async def _sweep(self, networks: Sequence[Network], *, final: bool = False) -> None:
        """What netavark should have removed. Nobody is on ``networks``."""
        async with self._netavark.turn():
            for network in networks:
                if direct.exists(network.bridge):
                    await run(["ip", "link", "delete", network.bridge], check=False)
            traces = [firewall.Trace(network.bridge, network.subnet) for network in networks]
            await firewall.clean(traces, final=final)

    async def _clear_leftover(self, name: str, bridge: str) -> None:
        """Our data was deleted while its bridge was in being: it has this name, and a range of its own."""
        if direct.exists(bridge):
            ranges = [item for device, item in await _host_ranges() if device == bridge]
            await self._sweep([Network(name, bridge, str(item), str(item[1]), False) for item in ranges])
            if direct.exists(bridge):  # it had no address
                await run(["ip", "link", "delete", bridge], check=False)

    # Crashes and the end

    async def recover(self, live: Collection[str]) -> None:
        """After a kill or a reboot: release what belonged to containers not in ``live``, connect those that are."""
        await self._netavark.settle()
        for name, record in list(self._records.items()):
            for container in [item for item in record.leases if item not in live]:
                await self.detach(self._netns / container, name, container)
        for entry in sorted(self._netns.iterdir()):
            if entry.name not in live:
                await asyncio.to_thread(netns.delete, entry)
        await self._sweep([record.network for record in self._records.values() if not record.leases])
        await self._reconnect([item for item in live if not netns.exists(self._netns / item)])
        async with self._netavark.turn():
            networks = [record.network for record in self._records.values() if record.leases]
            await self._netavark.keep_serving([network for network in networks if network.names])

    async def _reconnect(self, containers: Collection[str]) -> None:
        """The machine was started anew: the containers that are on a network get namespaces again."""
        for container in containers:
            mine = [record for record in self._records.values() if container in record.leases]
            try:
                if mine:
                    await self.create_netns(container)
                for record in mine:
                    await self._again(record, container)
            except SlipwayError:
                log.exception("container %s could not be connected again", container)

    async def _again(self, record: Record, container: str) -> None:
        async with self._locks[record.network.name]:
            await self._netavark.setup(
                record.network, container, record.leases[container], self._netns / container
            )
            direct.guard(record.network)
            await direct.pin(record.network)

    async def down(self) -> None:
        """Leave nothing: no bridge, no rule, no name server, no namespace. The records go too."""
        await self.recover(())
        networks = self.list()
        for network in networks:
            await self.remove(network.name)
        await self._netavark.stop_serving()
        await self._sweep(networks, final=True)
        await asyncio.to_thread(self._netavark.remove_files)

    # Records

    async def _taken(self, but: str = "") -> builtins.list[ipaddress.IPv4Network]:
        """Ranges that are not free: those of our networks and what the host has routes to."""
        taken = [
            ipaddress.IPv4Network(record.network.subnet)
            for name, record in self._records.items()
            if name != but
        ]
        return taken + [item for _, item in await _host_ranges()]

    def _identity(self, name: str) -> str:
        """Names of kernel objects: two servers on one machine must not share a bridge or a chain."""
        return hashlib.sha256(f"{self._data}\0{name}".encode()).hexdigest()

    def _path(self, name: str) -> Path:
        return self._data / f"{name}.json"

    def _record(self, name: str) -> Record:
        try:
            return self._records[name]
        except KeyError as error:
            raise NotFound(f"there is no network {name!r}") from error

    def _keep(self, record: Record, *, durable: bool = False) -> None:
        write_json(self._path(record.network.name), record.to_json(), durable=durable)
        self._records[record.network.name] = record

    def _load(self) -> dict[str, Record]:
        found = {}
        for path in sorted(self._data.glob("*.json")):
            try:
                record = Record.from_json(read_json(path))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                # Torn when the power went. It is made anew for the next container; no other has to wait for it.
                log.warning("the record of a network, %s, cannot be read: %s", path, error)
                continue
            found[record.network.name] = record
        return found


def _attachment(record: Record, container: str) -> Attachment:
    network, lease = record.network, record.leases[container]
    dns = network.gateway if network.names else ""
    return Attachment(network.name, lease.address, network.gateway, dns, lease.interface)


async def _host_ranges() -> list[tuple[str, ipaddress.IPv4Network]]:
    """What the host has routes to, each with the device."""
    done = await run(["ip", "-json", "-4", "route"])
    return [
        (route.get("dev", ""), ipaddress.IPv4Network(route["dst"], strict=False))
        for route in json.loads(done.stdout or b"[]")
        if route["dst"] != "default"
    ]
