"""The images that builds without another registry begin with: distributions, made from their own packages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from slipway.app.images import LIBRARY
from slipway.base.progress import Phases, Progress
from slipway.build.bootstrap import debian, parse_name
from slipway.content import ContentStore, holding
from slipway.errors import NotFound, Unsupported
from slipway.registry import Registry

_LEASE = timedelta(hours=1)


class BaseImages:
    """Who does not ``bootstraps`` has to be given them."""

    def __init__(self, registry: Registry, blobs: ContentStore, *, bootstraps: bool) -> None:
        self._registry = registry
        self._blobs = blobs
        self._bootstraps = bootstraps

    async def make(
        self, name: str, mirror: str, include: list[str], variant: str, force: bool, progress: Progress
    ) -> dict[str, Any]:
        """``name`` is a distribution and its suite. One that is there stays as it is, unless ``force``."""
        distribution, suite = parse_name(name)
        repository = f"{LIBRARY}/{distribution}"
        if not self._bootstraps:
            raise Unsupported(
                "this server has no machine to make base images on",
                hint=f"push one: skopeo copy … docker://THIS-REGISTRY/{repository}:{suite}",
            )
        if not force:
            try:
                stored = await self._registry.get_manifest(repository, suite)
                return {"reference": f"{repository}:{suite}", "digest": str(stored.digest), "unchanged": True}
            except NotFound:
                pass
        with Phases(progress).phase(f"bootstrap {name}"):
            config, layer = await debian(self._blobs, suite, mirror=mirror, include=include, variant=variant)
            digest = layer.descriptor.digest
            async with holding(self._blobs, f"base {name}", digest, ttl=_LEASE):
                image = await self._registry.store_image(repository, [suite], config, [layer.descriptor])
        return {"reference": f"{repository}:{suite}", "digest": str(image.digest)}
