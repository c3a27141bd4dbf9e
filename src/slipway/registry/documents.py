"""What is said about images: signatures, SBOMs, anything whose subject they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import select

from slipway.content import ContentStore, holding
from slipway.errors import Invalid, NotFound
from slipway.oci import Descriptor, Digest, Index, Manifest, parse_manifest
from slipway.registry import manifests, referrers, repositories, tagging
from slipway.registry.linked import LinkedBlobs
from slipway.registry.referrers import ReferrersPage
from slipway.state import Database
from slipway.state.tables import Manifest as ManifestRow
from slipway.state.tables import Repository


class Referrer(Protocol):
    """A manifest that is about an image, the blobs it needs, and the tag it may have."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def blobs(self) -> Sequence[bytes]: ...

    @property
    def tag(self) -> str: ...


class Documents:
    """The referrers of a registry, and what they hold."""

    def __init__(self, database: Database, blobs: ContentStore, linked: LinkedBlobs) -> None:
        self._database = database
        self._blobs = blobs
        self._linked = linked

    async def referrers(self, repository: str, digest: Digest) -> Index:
        """What refers to ``digest``; an empty index when nothing does."""
        found: list[Descriptor] = []
        last = ""
        while True:
            page = await self.referrers_page(repository, digest, "", last, referrers.PAGE)
            found += page.index.manifests
            if not page.last:
                return Index(tuple(found))
            last = page.last

    async def referrers_page(
        self, repository: str, digest: Digest, artifact_type: str, last: str, count: int
    ) -> ReferrersPage:
        """At most ``count`` of what refers to ``digest``, those from a tag of another registry's clients included."""
        async with self._database.read() as session:
            owner = await repositories.find(session, repository)
            if owner is None or not count:
                return ReferrersPage(Index(()), "")
            found, tagged = await referrers.rows(session, owner, digest, artifact_type, last, count + 1)
        return await asyncio.to_thread(referrers.page, self._blobs, found, tagged, artifact_type, last, count)

    async def store_referrers(self, repository: str, found: Sequence[Referrer]) -> None:
        """Documents about an image, with the small blobs they need, all or none."""
        raw = [item.manifest.to_bytes() for item in found]
        contents = dict.fromkeys([*raw, *(data for item in found for data in item.blobs)])
        async with holding(self._blobs, "referrers", *map(Digest.of, contents)):
            await asyncio.to_thread(self._blobs.put_all, contents)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                blobs = [blob for item in found for blob in item.manifest.references]
                await repositories.link(session, owner, *((blob.digest, blob.size) for blob in blobs))
                recorded = [
                    (item.manifest, Digest.of(data), len(data)) for item, data in zip(found, raw, strict=True)
                ]
                rows = await manifests.record_all(session, owner, recorded)
                for item, row in zip(found, rows, strict=True):
                    if item.tag:
                        await tagging.put(session, owner, item.tag, row)

    async def has_referrer(self, repository: str, subject: Digest, artifact_type: str) -> bool:
        query = (
            select(ManifestRow.id)
            .join(Repository, Repository.id == ManifestRow.repository_id)
            .where(
                Repository.name == repository,
                ManifestRow.subject == str(subject),
                ManifestRow.artifact_type == artifact_type,
                ManifestRow.deleted.is_(None),
            )
        )
        async with self._database.read() as session:
            return (await session.execute(query.limit(1))).first() is not None

    async def referrer_manifests(self, repository: str, subject: Digest) -> list[tuple[Digest, Manifest]]:
        """The manifests about an image, whole."""
        found = []
        for item in (await self.referrers(repository, subject)).manifests:
            try:
                data = await asyncio.to_thread(self._blobs.read, item.digest)
                manifest = parse_manifest(data, item.media_type)
            except (NotFound, Invalid):
                continue  # a tag of another registry's clients lists it, and may list anything
            if isinstance(manifest, Manifest):
                found.append((item.digest, manifest))
        return found

    async def read_document(self, repository: str, digest: Digest, limit: int) -> bytes:
        """A blob of this repository. Raises ``NotFound``, and ``Exhausted`` above ``limit`` bytes."""
        await self._linked.size(repository, digest)
        return await asyncio.to_thread(self._blobs.read, digest, limit)
