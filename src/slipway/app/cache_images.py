"""Build caches in this registry and in others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from slipway.access import Access, Identity, Permission
from slipway.build.cache_images import MAX_CONFIG, CacheContent
from slipway.content import BlobStore, holding
from slipway.distribution import Login, RemoteRegistry, fetch_blob, push
from slipway.errors import Invalid
from slipway.oci import Descriptor, Digest, Manifest, Reference, parse_manifest
from slipway.registry import Registry

_LEASE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class FoundCache:
    """``host`` is empty for this registry, whose layers are all here."""

    content: CacheContent
    reference: Reference
    login: Login | None
    blobs: BlobStore

    async def fetch(self, blob: Descriptor) -> None:
        if not self.reference.registry:
            return
        async with RemoteRegistry(self.reference.registry, self.login) as remote:
            await fetch_blob(remote, self.reference, blob, self.blobs)


@dataclass(frozen=True, slots=True)
class OwnersCaches:
    """``slipway.build.cache_images.CacheImages`` with the rights of ``owner``."""

    registry: Registry
    access: Access
    owner: Identity
    logins: Mapping[str, Login]

    async def find_cache(self, reference: Reference) -> FoundCache:
        if not reference.registry:
            await self.access.require(self.owner, _project(reference), Permission.PULL)
            stored = await self.registry.get_manifest(reference.repository, reference.target)
            manifest = _cache(reference, stored.data, stored.media_type)
            config = await asyncio.to_thread(self.registry.blobs.read, manifest.config.digest, MAX_CONFIG)
        else:
            async with RemoteRegistry(reference.registry, self.logins.get(reference.registry)) as remote:
                data, kind = await remote.manifest(reference)
                manifest = _cache(reference, data, kind)
                pieces = [piece async for piece in remote.blob(reference, manifest.config)]
                config = b"".join(pieces)
                if Digest.of(config) != manifest.config.digest:
                    raise Invalid(
                        f"{reference.registry} sent another configuration than {manifest.config.digest}"
                    )
        login = self.logins.get(reference.registry)
        return FoundCache(CacheContent.parse(manifest, config), reference, login, self.registry.blobs)

    async def store_cache(self, reference: Reference, content: CacheContent) -> None:
        manifest, config = content.manifest(), content.config()
        data, blobs = manifest.to_bytes(), self.registry.blobs
        target = reference if reference.tag else reference.with_tag("cache")
        if not reference.registry:
            await self.access.require(self.owner, _project(reference), Permission.PUSH)
        async with holding(blobs, f"cache {reference}", manifest.config.digest, ttl=_LEASE):
            await asyncio.to_thread(blobs.put, config)
            if not reference.registry:
                await self.registry.adopt_image(reference.repository, target.tag, data, manifest)
                return
            async with RemoteRegistry(reference.registry, self.logins.get(reference.registry)) as remote:
                await push(remote, target, data, manifest.media_type, blobs, lambda blob, known: None)


def _cache(reference: Reference, data: bytes, media_type: str) -> Manifest:
    manifest = parse_manifest(data, media_type)
    if not isinstance(manifest, Manifest) or manifest.config.size > MAX_CONFIG:
        raise Invalid(f"{reference} holds no build cache", hint="--cache-to makes one")
    return manifest


def _project(reference: Reference) -> str:
    return reference.repository.partition("/")[0]
