"""The registry: one method for each thing a client may ask. Permissions are the caller's business."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import delete, func, select

from slipway.base.clock import now
from slipway.base.ids import new_id
from slipway.content import BlobUpload, ContentStore, holding
from slipway.errors import Invalid, NotFound
from slipway.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    Platform,
    Reference,
    parse_manifest,
)
from slipway.oci.reference import is_tag
from slipway.registry import events, manifests, merge, referrers, repositories, tagging, trash, usage
from slipway.registry.feed import Feed
from slipway.registry.images import ResolvedImage
from slipway.registry.manifests import StoredManifest
from slipway.registry.moves import Moved
from slipway.registry.pulls import Pulls
from slipway.registry.recent import RecentBytes
from slipway.registry.referrers import ReferrersPage
from slipway.registry.uploads import UploadState, check_chunk
from slipway.state import Database
from slipway.state.tables import (
    BuildCache,
    ManifestReference,
    Project,
    Repository,
    RepositoryBlob,
    Tag,
    Upload,
)
from slipway.state.tables import Manifest as ManifestRow

UPLOAD_AGE = timedelta(days=1)
MAX_PAGE = 10_000
_OF = "JOIN repositories ON repositories.id = repository_id WHERE repositories.name = :repository"
_TAGS = f"SELECT tags.name FROM tags {_OF} AND tags.name > :last ORDER BY tags.name LIMIT :limit"
_LINK = f"SELECT digest FROM repository_blobs {_OF} AND digest = :digest"
_UPLOAD = f"SELECT uploads.id FROM uploads {_OF} AND uploads.id = :id"


class Referrer(Protocol):
    """A manifest that is about an image, the blobs it needs, and the tag it may have."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def blobs(self) -> Sequence[bytes]: ...

    @property
    def tag(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TagRecord:
    repository: str
    tag: str
    digest: Digest
    size: int
    updated: datetime


class Registry:
    """Repositories over one database and one content store."""

    def __init__(self, database: Database, blobs: ContentStore) -> None:
        self._database = database
        self.blobs = blobs
        self.pulls = Pulls(database)
        self.feed = Feed(database)
        self._recent = RecentBytes()

    # Manifests and tags

    async def get_manifest(self, repository: str, reference: str) -> StoredManifest:
        """By tag or digest. Raises ``NotFound``."""
        found = await manifests.look_up(self._database, repository, reference)
        if found is None:
            async with self._database.read() as session:
                await repositories.require(session, repository)
            raise NotFound(f"there is no {reference[:150]!r} in {repository!r}")
        digest = Digest.parse(found[0])
        data = self._recent.get(digest)
        if data is None:
            data = await asyncio.to_thread(self.blobs.read, digest)
            self._recent.add(digest, data)
        return StoredManifest(data, found[1], digest)

    async def put_manifest(
        self, repository: str, reference: str, data: bytes, content_type: str, by: str = "",
        moved: Moved | None = None,
    ) -> StoredManifest:  # fmt: skip
        """Store under a tag or its digest, exactly as sent.

        ``moved``: the tag was moved like this at another site. Raises ``Invalid``, ``manifests.MissingReference``,
        ``usage.QuotaExceeded``, and ``Conflict`` for an immutable tag.
        """
        manifest = parse_manifest(data, content_type)
        algorithm = "sha512" if reference.startswith("sha512:") else "sha256"
        digest = Digest.of(data) if algorithm == "sha256" else _sha512(data)
        if ":" in reference and Digest.parse(reference) != digest:
            raise Invalid(f"the manifest's digest is {digest}, not {reference}")
        if ":" not in reference and not is_tag(reference):
            raise Invalid(f"not a tag: {reference[:200]!r}")
        async with holding(self.blobs, "manifest", digest):
            await asyncio.to_thread(self._put_blob, data, algorithm)
            sizes = await asyncio.to_thread(self._sizes, manifest)
            try:
                async with self._database.session() as session:
                    owner = await repositories.ensure(session, repository)
                    await manifests.check_references(session, owner, manifest, sizes.get)
                    row = await manifests.record(session, owner, manifest, digest, len(data), by)
                    tag = "" if ":" in reference else reference
                    if tag and moved is not None:
                        await merge.apply(session, owner, tag, row, moved.move, moved.by)
                    elif tag:
                        await tagging.put(session, owner, tag, row, by)
                    await tagging.pushed(session, owner, digest, by, tag)
            except usage.QuotaExceeded:
                await self._refused(events.QUOTA, repository, reference, digest, by)
                raise
        return StoredManifest(data, manifest.media_type, digest)

    def _sizes(self, manifest: Manifest | Index) -> dict[Digest, int | None]:
        """Of the blobs it needs, asked before the transaction that looks at them; an index needs manifests."""
        needed = manifest.references if isinstance(manifest, Manifest) else ()
        return {item.digest: self.blobs.size(item.digest) for item in needed if not item.urls}

    async def _refused(self, kind: str, repository: str, reference: str, digest: Digest, by: str) -> None:
        tag = "" if ":" in reference else reference
        project = repositories.project_of(repository)
        async with self._database.session() as session:
            await events.emit(
                session, kind, project, repository, by=by, tag=tag, digest=str(digest), allowed=False
            )

    def _put_blob(self, data: bytes, algorithm: str = "sha256") -> Digest:
        with self.blobs.writer(algorithm) as writer:
            writer.write(data)
            return writer.commit()[0]

    async def delete_manifest(
        self, repository: str, reference: str, by: str = "", *,
        own: bool = False, whole: bool = False, kept: bool = True, moved: Moved | None = None,
    ) -> None:  # fmt: skip
        """A tag alone, or by digest the manifest with all its tags and what was said about it: to the trash.

        ``own``: only what ``by`` pushed may go. ``whole``: with its last tag goes the image. ``kept=False``: at once
        and for good. Raises ``NotFound``, ``Denied``.
        """
        async with self._database.session() as session:
            owner = await repositories.require(session, repository)
            if moved is not None and ":" not in reference:
                await merge.apply(session, owner, reference, None, moved.move, moved.by)
                return
            await trash.throw_away(session, owner, reference, by, own=own, whole=whole)
        if not kept:  # apart: who counts takes the project's row first, who moves tags the clock's
            async with self._database.session() as session:
                await trash.purge(session, await repositories.require(session, repository), reference)

    async def tags(self, repository: str, count: int, last: str) -> list[str]:
        """Tag names after ``last``, sorted by their bytes."""
        limit = min(count, MAX_PAGE)
        found = await self._database.look_up(_TAGS, repository=repository, last=last, limit=limit)
        if not found:
            async with self._database.read() as session:
                await repositories.require(session, repository)
        return [name for (name,) in found]

    async def catalog(self, projects: Sequence[str] | None, count: int, last: str) -> list[str]:
        """Repository names after ``last``; only those of ``projects`` unless it is ``None``."""
        query = select(Repository.name).where(Repository.name > last).order_by(Repository.name)
        if projects is not None:
            query = query.join(Project, Project.id == Repository.project_id).where(Project.name.in_(projects))
        async with self._database.read() as session:
            return list(await session.scalars(query.limit(min(count, MAX_PAGE))))

    async def tag_records(self, projects: Sequence[str]) -> list[TagRecord]:
        """Every tag of these projects with its image's size (manifest, config and layers).

        Tags that hold a signature of the image beside them are no images of their own.
        """
        total = (
            select(func.coalesce(func.sum(ManifestReference.size), 0))
            .where(ManifestReference.manifest_id == ManifestRow.id)
            .scalar_subquery()
        )
        query = (
            select(Repository.name, Tag.name, ManifestRow.digest, ManifestRow.size + total, Tag.updated)
            .join(Tag, Tag.repository_id == Repository.id)
            .join(ManifestRow, ManifestRow.id == Tag.manifest_id)
            .order_by(Repository.name, Tag.name)
        )
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        return [
            TagRecord(name, tag, Digest.parse(digest), int(size), updated)
            for name, tag, digest, size, updated in rows
            if name.partition("/")[0] in projects and not tagging.is_beside(tag)
        ]

    async def tags_of(self, repository: str, digest: Digest) -> list[str]:
        async with self._database.read() as session:
            owner = await repositories.require(session, repository)
            row = await manifests.by_digest(session, owner, str(digest))
            if row is None:
                return []
            return list(
                await session.scalars(select(Tag.name).where(Tag.manifest_id == row.id).order_by(Tag.name))
            )

    async def tags_by(self, repository: str, by: str) -> list[str]:
        """The tags of a repository that ``by`` put where they are."""
        async with self._database.read() as session:
            owner = await repositories.require(session, repository)
            query = select(Tag.name).where(Tag.repository_id == owner.id, Tag.pushed_by == by)
            return list(await session.scalars(query.order_by(Tag.name)))

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
        return await asyncio.to_thread(referrers.page, self.blobs, found, tagged, artifact_type, last, count)

    # Blobs

    async def blob_size(self, repository: str, digest: Digest, *, keep: bool = False) -> int:
        """Raises ``NotFound`` unless the blob is linked here, whatever other repositories have.

        ``keep``: somebody asks in order to reference it soon, so it is as young as if it had just been pushed.
        """
        linked = await self._database.look_up(_LINK, repository=repository, digest=str(digest))
        look = self.blobs.renew if keep else self.blobs.size
        size = await asyncio.to_thread(look, digest) if linked else None
        if size is None:
            raise NotFound(f"there is no blob {digest} in {repository!r}")
        return size

    async def delete_blob(self, repository: str, digest: Digest) -> None:
        """Unlink; the bytes go when nobody needs them."""
        async with self._database.session() as session:
            owner = await repositories.require(session, repository)
            linked = await session.get(RepositoryBlob, (owner.id, str(digest)))
            if linked is None:
                raise NotFound(f"there is no blob {digest} in {repository!r}")
            await session.delete(linked)

    async def mount_blob(self, repository: str, digest: Digest, source: str) -> bool:
        """Link a blob that ``source`` has (the caller may read it there); whether it could be."""
        async with holding(self.blobs, "mount", digest):
            try:
                size = await self.blob_size(source, digest)
            except NotFound:
                return False
            await self._link(repository, digest, size)
        return True

    async def _link(self, repository: str, digest: Digest, size: int) -> None:
        async with self._database.session() as session:
            owner = await repositories.ensure(session, repository)
            await repositories.link(session, owner, (digest, size))

    # Uploads

    async def start_upload(self, repository: str, owner: str) -> UploadState:
        upload_id = new_id(40)
        async with self._database.session() as session:
            row = await repositories.ensure(session, repository)
            session.add(Upload(id=upload_id, repository_id=row.id, owner=owner, created=now()))
        await asyncio.to_thread(lambda: self.blobs.upload(upload_id, create=True).close())
        return UploadState(upload_id, 0)

    async def upload_state(self, repository: str, upload_id: str) -> UploadState:
        upload = await self._open(repository, upload_id)
        await asyncio.to_thread(upload.close)
        return UploadState(upload_id, upload.offset)

    async def _open(self, repository: str, upload_id: str) -> BlobUpload:
        if not await self._database.look_up(_UPLOAD, repository=repository, id=upload_id):
            async with self._database.read() as session:
                await repositories.require(session, repository)
            raise NotFound(f"there is no upload {upload_id[:80]!r} in {repository!r}")
        return await asyncio.to_thread(self.blobs.upload, upload_id)

    async def open_upload(
        self, repository: str, upload_id: str, content_range: str | None, length: int | None
    ) -> BlobUpload:
        """The upload, ready to be appended to. The caller closes or commits it. Raises ``OutOfOrder``."""
        upload = await self._open(repository, upload_id)
        try:
            check_chunk(content_range, upload.offset, length)
        except BaseException:
            await asyncio.to_thread(upload.close)
            raise
        return upload

    async def finish_upload(self, repository: str, upload: BlobUpload, digest: Digest) -> int:
        """Verify and publish the upload as a blob of the repository; its size. Raises ``Invalid`` on a mismatch."""
        upload_id = upload.id
        async with holding(self.blobs, "upload", digest):
            _, size = await asyncio.to_thread(upload.commit, digest)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                await repositories.link(session, owner, (digest, size))
                await session.execute(delete(Upload).where(Upload.id == upload_id))
        return int(size)

    async def cancel_upload(self, repository: str, upload_id: str) -> None:
        upload = await self._open(repository, upload_id)
        await asyncio.to_thread(upload.discard)
        async with self._database.session() as session:
            await session.execute(delete(Upload).where(Upload.id == upload_id))

    # For the rooms beside and above

    async def store_image(
        self, repository: str, tags: Sequence[str], config: ImageConfig, layers: Sequence[Descriptor],
        by: str = "",
    ) -> Descriptor:  # fmt: skip
        """An image whose layers are in the store already (and leased by the caller): no byte of them is copied."""
        data = config.to_bytes()
        manifest = Manifest(Descriptor(MediaType.OCI_CONFIG, Digest.of(data), len(data)), tuple(layers))
        raw = manifest.to_bytes()
        digest = Digest.of(raw)
        async with holding(self.blobs, "image", Digest.of(data), digest):
            await asyncio.to_thread(self.blobs.put_all, (data, raw))
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                await repositories.link(
                    session, owner, *((item.digest, item.size) for item in manifest.references)
                )
                row = await manifests.record(session, owner, manifest, digest, len(raw), by)
                for tag in tags:
                    await tagging.put(session, owner, tag, row, by)
                    await tagging.pushed(session, owner, digest, by, tag)
        return Descriptor(manifest.media_type, digest, len(raw))

    async def store_index(
        self, repository: str, tags: Sequence[str], images: Sequence[Descriptor], by: str = ""
    ) -> Descriptor:
        """An index of images of this repository, one a platform. Raises ``NotFound`` when one is not there."""
        index = Index(tuple(images))
        raw = index.to_bytes()
        digest = Digest.of(raw)
        async with holding(self.blobs, "index", digest):
            await asyncio.to_thread(self.blobs.put, raw)
            async with self._database.session() as session:
                owner = await repositories.require(session, repository)
                for item in images:
                    if await manifests.by_digest(session, owner, str(item.digest)) is None:
                        raise NotFound(f"there is no manifest {item.digest} in {repository!r}")
                row = await manifests.record(session, owner, index, digest, len(raw), by)
                for tag in tags:
                    await tagging.put(session, owner, tag, row, by)
                    await tagging.pushed(session, owner, digest, by, tag)
        return Descriptor(index.media_type, digest, len(raw))

    async def store_referrers(self, repository: str, found: Sequence[Referrer]) -> None:
        """Documents about an image, with the small blobs they need, all or none."""
        raw = [item.manifest.to_bytes() for item in found]
        contents = dict.fromkeys([*raw, *(data for item in found for data in item.blobs)])
        async with holding(self.blobs, "referrers", *map(Digest.of, contents)):
            await asyncio.to_thread(self.blobs.put_all, contents)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                blobs = [blob for item in found for blob in item.manifest.references]
                await repositories.link(session, owner, *((blob.digest, blob.size) for blob in blobs))
                rows = await manifests.record_all(
                    session,
                    owner,
                    [
                        (item.manifest, Digest.of(data), len(data))
                        for item, data in zip(found, raw, strict=True)
                    ],
                )
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
            manifest = parse_manifest(await asyncio.to_thread(self.blobs.read, item.digest), item.media_type)
            if isinstance(manifest, Manifest):
                found.append((item.digest, manifest))
        return found

    async def read_document(self, repository: str, digest: Digest, limit: int) -> bytes:
        """A blob of this repository. Raises ``NotFound``, and ``Exhausted`` above ``limit`` bytes."""
        await self.blob_size(repository, digest)
        return await asyncio.to_thread(self.blobs.read, digest, limit)

    async def adopt_image(self, repository: str, tag: str, data: bytes, manifest: Manifest) -> Digest:
        """A pulled image, its manifest exactly as it was sent; the blobs are in the store, leased by the caller."""
        digest = Digest.of(data)
        async with holding(self.blobs, "image", digest):
            await asyncio.to_thread(self.blobs.put, data)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                await repositories.link(
                    session, owner, *((item.digest, item.size) for item in manifest.references)
                )
                row = await manifests.record(session, owner, manifest, digest, len(data))
                if tag:
                    await tagging.put(session, owner, tag, row)
        return digest

    async def tag(self, repository: str, digest: Digest, name: str, by: str = "") -> None:
        """Point a tag at a manifest that is there. Raises ``NotFound``."""
        async with self._database.session() as session:
            owner = await repositories.require(session, repository)
            row = await manifests.by_digest(session, owner, str(digest), lock=True)
            if row is None:
                raise NotFound(f"there is no manifest {digest} in {repository!r}")
            await tagging.put(session, owner, name, row, by)

    async def resolve(self, reference: Reference, platform: Platform | None = None) -> ResolvedImage:
        """The image of ``platform`` (this machine's by default) that a reference means here."""
        stored = await self.get_manifest(reference.repository, reference.target)
        manifest = parse_manifest(stored.data, stored.media_type)
        if isinstance(manifest, Index):
            wanted = platform or Platform.host()
            match = next((item for item in manifest.manifests if item.platform == wanted), None)
            if match is None:
                raise NotFound(f"{reference} has no image for {wanted}")
            return await self.resolve(reference.with_digest(match.digest), platform)
        config = await asyncio.to_thread(self.blobs.read, manifest.config.digest)
        return ResolvedImage(reference.repository, stored.digest, manifest, ImageConfig.parse(config))

    async def roots(self) -> set[Digest]:
        """Every digest that something references: what collection must keep."""
        async with self._database.read() as session:
            found = set(await session.scalars(select(ManifestRow.digest)))
            found |= set(await session.scalars(select(ManifestReference.digest)))
            found |= set(await session.scalars(select(BuildCache.layer_digest)))
        return {Digest.parse(text) for text in found if text}

    async def expire_uploads(self) -> int:
        """Remove uploads that nobody has written to for a day."""
        found = await asyncio.to_thread(self.blobs.uploads)
        stale = [name for name, age in found if age > UPLOAD_AGE.total_seconds()]
        for name in stale:
            with suppress(NotFound):  # it ended meanwhile
                upload = await asyncio.to_thread(self.blobs.upload, name)
                await asyncio.to_thread(upload.discard)
            async with self._database.session() as session:
                await session.execute(delete(Upload).where(Upload.id == name))
        return len(stale)


def _sha512(data: bytes) -> Digest:
    return Digest("sha512", hashlib.sha512(data).hexdigest())
