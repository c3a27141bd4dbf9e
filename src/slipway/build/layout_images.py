"""Named contexts that are OCI layouts: images that only this build knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slipway.build.base_images import BaseImage, Images
from slipway.build.cache_images import CacheContent, CacheSource
from slipway.content import BlobLease, ContentStore
from slipway.distribution import OciLayout, pull
from slipway.oci import Digest, Platform, Reference
from slipway.snapshots import LayerRef

_REGISTRY = "oci-layout"


def layout_reference(number: int, named: str) -> Reference:
    """What the plan calls the image with the tag or digest ``named`` in the build's layout ``number``."""
    digest = Digest.parse(named) if ":" in named else None
    return Reference(f"context-{number}", _REGISTRY, "" if digest else named, digest)


@dataclass(frozen=True, slots=True)
class WithLayouts:
    """``images``, and those in ``layouts``, whose layers are brought into the store, under ``lease``, when needed."""

    images: Images
    layouts: Mapping[str, OciLayout]
    blobs: ContentStore
    lease: BlobLease

    async def resolve(self, reference: Reference, platform: Platform) -> BaseImage:
        if reference.registry != _REGISTRY:
            return await self.images.resolve(reference, platform)
        layout = self.layouts[reference.repository]
        found = await pull(layout, reference, platform, self.blobs, self.lease)
        pairs = zip(found.config.diff_ids, found.manifest.layers, strict=True)
        return BaseImage(found.digest, found.config, tuple(LayerRef(*pair) for pair in pairs))

    async def find_cache(self, reference: Reference) -> CacheSource:
        return await self.images.find_cache(reference)

    async def store_cache(self, reference: Reference, content: CacheContent) -> None:
        await self.images.store_cache(reference, content)
