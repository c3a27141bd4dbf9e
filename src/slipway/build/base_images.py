"""What FROM and COPY --from=IMAGE mean: an image of this platform, found by name and permission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from slipway.build.cache_images import CacheImages
from slipway.oci import Digest, ImageConfig, Platform, Reference
from slipway.snapshots import LayerRef


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A resolved image: its manifest's digest, configuration and layers, bottom first."""

    digest: Digest
    config: ImageConfig
    layers: tuple[LayerRef, ...]


class BaseImages(Protocol):
    """Resolves references for one build, with that build's owner's permissions.

    Credentials for other registries stay behind this interface: the worker never sees one.
    """

    async def resolve(self, reference: Reference, platform: Platform) -> BaseImage:
        """Raises ``NotFound`` when there is none the owner may pull; the hint says how to get one."""
        ...


class Images(BaseImages, CacheImages, Protocol):
    """All that a build job is given of the registries: what it stands on, and caches."""
