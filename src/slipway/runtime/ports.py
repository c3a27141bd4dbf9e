"""What the runtime needs of a network room, which it may not import."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol


class NetworkAddress(Protocol):
    """Where a container is on one network."""

    @property
    def network(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def dns(self) -> str: ...


class ContainerNetworks(Protocol):
    """Namespaces with a name, and networks they can be attached to. Every call but ``attach`` is idempotent.

    Order of a life: ``create_netns``, ``attach`` to each network, run, ``detach`` from each, ``delete_netns``.
    """

    async def create_netns(self, container: str) -> Path: ...
    def netns_path(self, container: str) -> Path: ...
    async def delete_netns(self, container: str) -> None: ...
    async def attach(
        self, path: Path, network: str, container: str, aliases: Sequence[str]
    ) -> NetworkAddress: ...
    async def detach(self, path: Path, network: str, container: str) -> None: ...
    async def recover(self, live: Collection[str]) -> None: ...
