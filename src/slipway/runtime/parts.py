"""What a container consists of besides its process: record, root, network namespace, files, volumes and bundle."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from slipway.base.files import atomic_write, read_json, write_json
from slipway.oci import Digest
from slipway.runtime import etc
from slipway.runtime.bundle import configuration
from slipway.runtime.ports import ContainerNetworks
from slipway.runtime.record import Container
from slipway.runtime.spec import ContainerSpec
from slipway.runtime.volumes import Volumes
from slipway.snapshots import SnapshotStore
from slipway.snapshots.accounts import resolve_user


class Parts:
    """Makes them and takes them away. Either may be cut off: ``take_apart`` removes whatever there is by then.

    Order of a life: ``save``, ``build``, then ``rebuild`` before each further run, ``take_apart``.
    """

    def __init__(
        self, directory: Path, snapshots: SnapshotStore, networks: ContainerNetworks, resolver: Callable[[], str]
    ) -> None:  # fmt: skip
        """``directory`` has one for each container; ``resolver`` gives the resolv.conf without names of ours."""
        self._all = directory
        self._all.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._snapshots = snapshots
        self._networks = networks
        self._resolver = resolver
        self._volumes = Volumes()

    def bundle(self, container: str) -> Path:
        return self._directory(container) / "bundle"

    def log(self, container: str) -> Path:
        return self._directory(container) / "log"

    # The record

    def save(self, container: Container) -> None:
        directory = self._directory(container.id)
        directory.mkdir(exist_ok=True, mode=0o700)
        write_json(directory / "container.json", container.to_json(), 0o600, durable=False)

    def records(self) -> list[Container]:
        """Of all containers; one that cannot be read is as good as half made."""
        return [self._record(directory) for directory in sorted(self._all.iterdir())]

    def _record(self, directory: Path) -> Container:
        try:
            return Container.from_json(read_json(directory / "container.json"))
        except (OSError, ValueError, TypeError, KeyError):
            return Container(directory.name, ContainerSpec("", "", "", ()))

    # Made

    async def build(self, container: Container) -> None:
        """Everything that a process of it needs; addresses are entered in the record."""
        spec = container.spec
        rootfs = await self._mount(container)
        netns = await self._networks.create_netns(container.id)
        for request in spec.networks:
            found = await self._networks.attach(netns, request.network, container.id, request.aliases)
            container.addresses[found.network] = found.address
            container.dns = container.dns or found.dns
        files = await asyncio.to_thread(self._write_files, container)
        with await asyncio.to_thread(self._snapshots.view, _chain(spec)) as view:
            account = resolve_user(spec.user, view)
            for mount in spec.mounts:
                if mount.kind == "volume":
                    inside = view.resolve(mount.target.strip("/"))
                    await self._volumes.fill(Path(mount.source), rootfs / inside if inside else None)
        bundle = self.bundle(container.id)
        bundle.mkdir()
        told = configuration(spec, account, rootfs, netns, container.id, files)
        write_json(bundle / "config.json", told, durable=False)

    async def rebuild(self, container: Container) -> None:
        """What the machine's end took away, as far as ``ContainerNetworks.recover`` does not."""
        await self._mount(container)
        if not container.spec.networks:
            await self._networks.create_netns(container.id)

    async def _mount(self, container: Container) -> Path:
        rootfs = self._rootfs(container.id)
        await asyncio.to_thread(
            self._snapshots.mount, container.id, _chain(container.spec), rootfs, etc.STUBS
        )
        return rootfs

    def _write_files(self, container: Container) -> dict[str, Path]:
        """On the host, by the path in the container."""
        directory = self._directory(container.id)
        texts = etc.texts(container, self._resolver)
        for file, text in texts.items():
            atomic_write(directory / file, text, durable=False)
        return {f"/etc/{file}": directory / file for file in texts}

    # Taken away

    async def take_apart(self, container: Container) -> None:
        """Everything but volumes, in reverse order. Its process has ended. Idempotent."""
        netns = self._networks.netns_path(container.id)
        for request in container.spec.networks:
            await self._networks.detach(netns, request.network, container.id)
        await self._networks.delete_netns(container.id)
        await self._unmount(container.id)
        await asyncio.to_thread(shutil.rmtree, self._directory(container.id), True)

    async def keep_only(self, living: Collection[str]) -> None:
        """Take away what belongs to no container; connect those again whose namespaces went with the machine."""
        for container in self._snapshots.container_ids():
            if container not in living:
                await self._unmount(container)
        await self._networks.recover(living)

    async def _unmount(self, container: str) -> None:
        await asyncio.to_thread(self._snapshots.unmount, container, self._rootfs(container))

    def _directory(self, container: str) -> Path:
        return self._all / container

    def _rootfs(self, container: str) -> Path:
        return self._directory(container) / "rootfs"


def _chain(spec: ContainerSpec) -> Digest | None:
    return Digest.parse(spec.chain) if spec.chain else None
