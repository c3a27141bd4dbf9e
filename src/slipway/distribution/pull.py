"""A whole image into the content store."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from slipway.base.throttle import Throttle
from slipway.content import BlobLease, BlobStore
from slipway.distribution.layouts import ImageSource
from slipway.distribution.push import UNLIMITED
from slipway.distribution.together import each_blob
from slipway.errors import Invalid, NotFound
from slipway.oci import Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, parse_manifest


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is in the store now: the platform's manifest as it was sent, and what it means."""

    data: bytes
    digest: Digest
    manifest: Manifest
    config: ImageConfig


async def pull(
    remote: ImageSource, reference: Reference, platform: Platform, blobs: BlobStore, lease: BlobLease
) -> Pulled:
    """Fetch what is missing of an image of ``platform``; every blob is under ``lease`` before it is relied on.

    Raises ``NotFound`` when there is none for the platform, ``Invalid`` for content that is not what it should be.
    """
    data, kind = await remote.manifest(reference)
    manifest = parse_manifest(data, kind)
    if isinstance(manifest, Index):
        chosen = next((item for item in manifest.manifests if item.platform == platform), None)
        if chosen is None:
            raise NotFound(f"{reference} has no image for {platform}")
        reference = reference.with_digest(chosen.digest)
        data, kind = await remote.manifest(reference)
        manifest = parse_manifest(data, kind)
    if not isinstance(manifest, Manifest):
        raise Invalid(f"{reference} is an index inside an index")
    if any(layer.urls for layer in manifest.layers):
        raise Invalid(f"{reference} has layers that live elsewhere; they are not fetched")

    async def one(blob: Descriptor) -> None:
        await asyncio.to_thread(lease.add, blob.digest)
        await fetch_blob(remote, reference, blob, blobs)

    await each_blob(manifest.references, one)
    config = ImageConfig.parse(await asyncio.to_thread(blobs.read, manifest.config.digest))
    if len(config.diff_ids) != len(manifest.layers):
        raise Invalid(
            f"{reference} has {len(manifest.layers)} layers, its configuration says {len(config.diff_ids)}"
        )
    return Pulled(data, Digest.of(data), manifest, config)


async def fetch_blob(
    remote: ImageSource, reference: Reference, blob: Descriptor, blobs: BlobStore,
    throttle: Throttle = UNLIMITED,
) -> None:  # fmt: skip
    """Fetch and verify a blob that is missing. The caller holds a lease on it."""
    if await asyncio.to_thread(blobs.size, blob.digest) is not None:
        return
    writer = await asyncio.to_thread(blobs.writer, blob.digest.algorithm)
    try:
        async with aclosing(remote.blob(reference, blob)) as pieces:
            async for piece in pieces:
                await throttle.take(len(piece))
                await asyncio.to_thread(writer.write, piece)
        await asyncio.to_thread(writer.commit, blob.digest, blob.size)
    finally:
        await asyncio.to_thread(writer.abort)
