"""What of a build's cache goes into a cache image."""

from __future__ import annotations

import asyncio
import os

from slipway.build.cache_images import CacheContent, CacheTarget
from slipway.build.cache_mounts import CacheMounts
from slipway.build.request import Solved
from slipway.build.solve.report import Reporter
from slipway.content import BlobLease, ContentStore
from slipway.errors import Invalid
from slipway.layers import Layer, diff_upper, write_layer
from slipway.snapshots import LayerRef


async def exported(
    solved: Solved, target: CacheTarget, project: str, blobs: ContentStore, caches: CacheMounts, lease: BlobLease,
    reporter: Reporter,
) -> CacheContent:  # fmt: skip
    """The content for ``target``, every layer of it under ``lease``."""
    final = {layer.blob.digest for layer in solved.layers}
    records = {
        key: made
        for key, made in solved.records.items()
        if target.steps or made.layer is None or made.layer.blob.digest in final
    }
    for made in records.values():
        if made.layer is not None:
            await asyncio.to_thread(lease.add, made.layer.blob.digest)
    mounts: dict[str, LayerRef] = {}
    for mount in solved.mounts if target.mounts else ():
        async with caches.kept(project, mount) as path:
            try:
                layer = await asyncio.to_thread(_written, str(path), blobs) if path is not None else None
            except (Invalid, OSError) as error:
                reporter.warning(f"the cache mount {mount.id!r} is in use and was left out: {error}")
                continue
        if layer is not None:
            await asyncio.to_thread(lease.add, layer.descriptor.digest)
            mounts[mount.id] = LayerRef(layer.diff_id, layer.descriptor)
    return CacheContent(records, mounts)


def _written(path: str, blobs: ContentStore) -> Layer:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return write_layer(blobs, diff_upper(fd))
    finally:
        os.close(fd)
