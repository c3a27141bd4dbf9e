"""Images of ourselves in our registry: the workers' and the platform's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from slipway.app.images import LIBRARY
from slipway.base.progress import Phases, Progress
from slipway.build.bootstrap import debian
from slipway.build.own_image import OwnImage, PackagedImage, own_config, own_layer, tag
from slipway.content import ContentStore, holding
from slipway.errors import NotFound, Unsupported
from slipway.oci import Descriptor, Digest, ImageConfig, Platform, Reference
from slipway.registry import Registry

SUITE = "bookworm"
_LEASE = timedelta(hours=1)


class OwnImages:
    """Each is made when it is first wanted. Who does not ``bootstraps`` needs the base to be there."""

    def __init__(self, registry: Registry, blobs: ContentStore, *, bootstraps: bool = True) -> None:
        self._bootstraps = bootstraps
        self._registry = registry
        self._blobs = blobs
        self._making = asyncio.Lock()

    async def make(self, image: OwnImage, progress: Progress) -> dict[str, Any]:
        """Like ``ensure``, for who watches."""
        with Phases(progress).phase(f"the image {image.name}"):
            reference, digest = await self.ensure(image)
        return {"reference": reference, "digest": digest}

    async def ensure(self, image: OwnImage) -> tuple[str, str]:
        """Its name with its tag, and its digest. Takes minutes the first time, seconds for another version of ours."""
        repository = f"{LIBRARY}/{image.name}"
        async with self._making:
            name = await asyncio.to_thread(tag, image)
            try:
                digest = (await self._registry.get_manifest(repository, name)).digest
            except NotFound:
                digest = await self._make(image, repository, name)
        return f"{repository}:{name}", str(digest)

    async def ensure_packaged(self, image: PackagedImage) -> tuple[str, str]:
        """Its name, and its digest. Takes a minute or more the first time."""
        repository = f"{LIBRARY}/{image.name}"
        async with self._making:
            try:
                found = await self._registry.get_manifest(repository, SUITE)
            except NotFound:
                self._check_machine(repository)
                await self._packaged(repository, image.packages)
                found = await self._registry.get_manifest(repository, SUITE)
        return repository, str(found.digest)

    async def _make(self, image: OwnImage, repository: str, name: str) -> Digest:
        config, layers = await self._base(image)
        layer = await asyncio.to_thread(own_layer, image, self._blobs)
        async with holding(self._blobs, f"own image {name}", layer.descriptor.digest, ttl=_LEASE):
            made = await self._registry.store_image(
                repository, [name], own_config(image, config, layer), [*layers, layer.descriptor]
            )
        return made.digest

    async def _base(self, image: OwnImage) -> tuple[ImageConfig, Sequence[Descriptor]]:
        repository = f"{LIBRARY}/{image.base}"
        try:
            found = await self._registry.resolve(Reference(repository, "", SUITE), Platform.host())
            return found.config, found.manifest.layers
        except NotFound:
            self._check_machine(repository)
            return await self._packaged(repository, image.packages)

    def _check_machine(self, repository: str) -> None:
        """Raises ``Unsupported`` for a server that could not make it."""
        if not self._bootstraps:
            raise Unsupported(
                f"{repository}:{SUITE} is not in the registry, and this server has no machine to make it on",
                hint=f"push it: slipway image push {repository}:{SUITE} …, on a machine where Slipway made it",
            )

    async def _packaged(
        self, repository: str, packages: Sequence[str]
    ) -> tuple[ImageConfig, Sequence[Descriptor]]:
        config, layer = await debian(self._blobs, SUITE, include=list(packages))
        async with holding(self._blobs, "base of own images", layer.descriptor.digest, ttl=_LEASE):
            await self._registry.store_image(repository, [SUITE], config, [layer.descriptor])
        return config, [layer.descriptor]
