"""An image of another registry, whole, and its tag as it was moved over there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

from slipway.base.throttle import Throttle
from slipway.content import BlobLease, holding
from slipway.distribution import RemoteRegistry, each_blob, fetch_blob
from slipway.distribution.together import Turns
from slipway.errors import Invalid, NotFound
from slipway.oci import Descriptor, Digest, Index, Manifest, Reference, parse_manifest
from slipway.registry import manifests, merge, repositories, tagging
from slipway.registry.merge import Outcome
from slipway.registry.moves import Moved
from slipway.registry.registry import Registry
from slipway.state import Database
from slipway.state.tables import Tag

_LEASE = timedelta(hours=12)
_DEEPEST = 4
Taken = Callable[[int], None]
"""Told the bytes of each blob that came over the line."""


class Intake:
    """Takes images from ``remote`` into this registry. Everything is verified; what is here already is not fetched."""

    def __init__(
        self, database: Database, registry: Registry, remote: RemoteRegistry, throttle: Throttle
    ) -> None:
        self._database = database
        self._registry = registry
        self._remote = remote
        self._throttle = throttle
        self._turns = Turns()

    async def image(self, there: Reference, repository: str, taken: Taken) -> Digest:
        """The image that ``there`` names, with its children and what refers to them; its digest."""
        async with holding(self._registry.blobs, "replication", ttl=_LEASE) as lease:
            return await self._tree(there, repository, lease, taken, _DEEPEST)

    async def _tree(
        self, there: Reference, repository: str, lease: BlobLease, taken: Taken, depth: int
    ) -> Digest:
        if depth == 0:
            raise Invalid(f"{there} is nested too deeply")
        known = there.digest is not None and await self._known(repository, there.digest)
        if known:
            stored = await self._registry.get_manifest(repository, str(there.digest))
            data, kind = stored.data, stored.media_type
        else:
            data, kind = await self._remote.manifest(there)
        digest = there.digest or Digest.of(data)
        manifest = parse_manifest(data, kind)
        if isinstance(manifest, Index):
            for item in manifest.manifests:
                await self._tree(there.with_digest(item.digest), repository, lease, taken, depth - 1)
        elif not known:
            await self._blobs(there, manifest, lease, taken)
        if not known:
            await self._record(repository, data, manifest, digest, lease)
        for item in await self._remote.referrers(there, digest):
            with contextlib.suppress(NotFound):  # listed over there, and gone
                await self._tree(there.with_digest(item.digest), repository, lease, taken, depth - 1)
        return digest

    async def _known(self, repository: str, digest: Digest) -> bool:
        async with self._database.read() as session:
            owner = await repositories.find(session, repository)
            return owner is not None and await manifests.by_digest(session, owner, str(digest)) is not None

    async def _blobs(self, there: Reference, manifest: Manifest, lease: BlobLease, taken: Taken) -> None:
        store = self._registry.blobs

        async def one(blob: Descriptor) -> None:
            await asyncio.to_thread(lease.add, blob.digest)
            async with self._turns.of(blob.digest):
                if await asyncio.to_thread(store.size, blob.digest) is None:
                    await fetch_blob(self._remote, there, blob, store, self._throttle)
                    taken(blob.size)

        await each_blob((item for item in manifest.references if not item.urls), one)

    async def _record(
        self, repository: str, data: bytes, manifest: Manifest | Index, digest: Digest, lease: BlobLease
    ) -> None:
        store = self._registry.blobs
        await asyncio.to_thread(lease.add, digest)
        await asyncio.to_thread(manifests.keep_bytes, store, data, digest)
        sizes = await asyncio.to_thread(lease.hold, manifests.needs(manifest))
        async with self._database.session() as session:
            owner = await repositories.ensure(session, repository)
            if isinstance(manifest, Manifest):
                blobs = ((item.digest, item.size) for item in manifest.references if not item.urls)
                await repositories.link(session, owner, *blobs)
            await manifests.check_references(session, owner, manifest, sizes)
            await manifests.record(session, owner, manifest, digest, len(data), "replication")

    async def move(self, repository: str, tag: str, digest: str, moved: Moved) -> Outcome:
        """Let the move have its effect here; the image it leads to is here already."""
        async with self._database.session() as session:
            owner = await repositories.ensure(session, repository)
            row = await manifests.by_digest(session, owner, digest, lock=True) if digest else None
            if digest and row is None:
                raise Invalid(f"{repository}@{digest} is gone again", hint="it is deleted here meanwhile")
            return await merge.apply(session, owner, tag, row, moved.move, moved.by)

    async def follow(self, repository: str, tag: str, digest: Digest, by: str) -> bool:
        """Point a tag where it points at a registry that tells no moves; whether that was news."""
        async with self._database.session() as session:
            owner = await repositories.require(session, repository)
            row = await manifests.by_digest(session, owner, str(digest), lock=True)
            found = await session.get(Tag, (owner.id, tag))
            if row is None or (found is not None and found.manifest_id == row.id):
                return False
            await tagging.put(session, owner, tag, row, by)
            return True
