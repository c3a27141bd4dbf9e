"""Blobs and images that come to a registry as a client's do, without a server before it."""

from __future__ import annotations

from slipway.oci import Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Platform
from slipway.registry import Registry


def no_roots(*_range: Digest) -> list[Digest]:
    """For a collection in a store whose blobs nothing references."""
    return []


async def pushed(registry: Registry, repository: str, data: bytes) -> Descriptor:
    state = await registry.uploads.start(repository)
    upload = registry.uploads.open(repository, state.id, None, None)
    upload.append(data)
    await registry.uploads.finish(repository, Digest.of(data), lambda: upload)
    return Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(data), len(data))


async def image(
    registry: Registry, repository: str, tag: str, layer: bytes = b"layer", subject: Descriptor | None = None
) -> Digest:
    """An image of one layer; with ``tag`` empty by its digest."""
    blob = await pushed(registry, repository, layer)
    config = ImageConfig(
        Platform.host(), (Digest.of(b"plain"),), {}, created="2026-01-01T00:00:00Z"
    ).to_bytes()
    found = await pushed(registry, repository, config)
    described = Descriptor(MediaType.OCI_CONFIG, found.digest, found.size)
    manifest = Manifest(described, (blob,), subject=subject)
    data = manifest.to_bytes()
    name = tag or str(Digest.of(data))
    return (await registry.put_manifest(repository, name, data, manifest.media_type)).digest


async def described(registry: Registry, repository: str, digest: Digest) -> Descriptor:
    """What an index, or a manifest that is about this one, says of it."""
    stored = await registry.get_manifest(repository, str(digest))
    return Descriptor(stored.media_type, digest, len(stored.data))


async def index(registry: Registry, repository: str, tag: str, *images: Descriptor) -> Digest:
    made = Index(images)
    return (await registry.put_manifest(repository, tag, made.to_bytes(), made.media_type)).digest
