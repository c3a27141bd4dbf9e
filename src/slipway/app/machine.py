"""The parts of a platform that touch this machine: its containers, networks and unpacked images."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from slipway.app.settings import Settings
from slipway.app.stores import open_content
from slipway.build.sandbox import Sandboxes
from slipway.content import ContentStore
from slipway.network import Balancer, Networks
from slipway.network.build import resolver_text
from slipway.runtime import Containers, HostFacts
from slipway.snapshots import SnapshotStore


@dataclass(slots=True)
class Machine:
    """The parts that touch containers and networks; also used to take everything down without a server."""

    blobs: ContentStore
    snapshots: SnapshotStore
    networks: Networks
    balancer: Balancer
    containers: Containers
    facts: HostFacts


async def make_machine(settings: Settings) -> Machine:
    data, run = settings.data, settings.run
    for directory in (data, run):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    facts = await HostFacts.probe()
    blobs = open_content(settings)
    snapshots = SnapshotStore(data / "snapshots", blobs)
    networks = Networks(data, run, settings["network.pool"])
    balancer = Balancer(run, settings["apps.listen"])
    containers = Containers(data, run, snapshots, networks, facts.require_runtime(), resolver_text)
    return Machine(blobs, snapshots, networks, balancer, containers, facts)


async def take_down(settings: Settings) -> None:
    """Stop and remove every container, network, rule and helper process. Data stays. The server must not run."""
    machine = await make_machine(settings)
    await machine.containers.recover()
    watcher = asyncio.create_task(machine.containers.run_forever())
    try:
        async with asyncio.TaskGroup() as group:
            for container in machine.containers.list():
                group.create_task(_end(machine.containers, container.id))
    finally:
        watcher.cancel()
    await machine.containers.close()
    await machine.balancer.stop()
    await machine.networks.down()
    Sandboxes(settings.run / "builds", None).recover()
    _remove_groups(Path("/sys/fs/cgroup"))


async def _end(containers: Containers, container: str) -> None:
    await containers.stop(container)
    await containers.remove(container)


def _remove_groups(root: Path) -> None:
    """Our empty groups in every hierarchy, innermost first."""
    for base in (root, *(path for path in root.iterdir() if path.is_dir())):
        for name in ("slipway/containers", "slipway/builds", "slipway"):
            try:
                (base / name).rmdir()
            except OSError:
                continue
