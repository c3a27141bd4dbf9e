"""What a delivery needs of builds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slipway.access import Identity
from slipway.base.progress import Progress
from slipway.build.request import Built
from slipway.compose import Service
from slipway.oci import Reference


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """One service's image to be made from ``source``."""

    project: str
    app: str
    service: Service
    source: Path
    no_cache: bool = False


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image by name and digest, as releases record it."""

    reference: str
    digest: str


class Builder(Protocol):
    """Builds images, and finds those that are only named."""

    async def build(self, order: BuildOrder, owner: Identity, progress: Progress) -> Built:
        """Raises ``Failed``, ``Invalid``, ``Cancelled``."""
        ...

    async def tag(self, image: ImageRef, tag: str) -> ImageRef:
        """The built image under the tag of its release; nothing is copied."""
        ...

    async def resolve(self, reference: Reference, owner: Identity) -> ImageRef:
        """The digest a name stands for now, pulled if need be. Raises ``NotFound``."""
        ...
