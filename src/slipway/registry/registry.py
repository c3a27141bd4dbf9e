"""The registry: one method for each thing a client may ask of an image. Permissions are the caller's business."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence

from slipway.content import BlobLease, ContentStore, holding
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
from slipway.registry import events, manifests, merge, repositories, tagging, trash, usage
from slipway.registry.documents import Documents
from slipway.registry.feed import Feed
from slipway.registry.images import ResolvedImage
from slipway.registry.labels import words_of
from slipway.registry.linked import LinkedBlobs
from slipway.registry.links import Links
from slipway.registry.lists import Lists
from slipway.registry.manifests import StoredManifest
from slipway.registry.moves import Moved
from slipway.registry.projects import ProjectRules
from slipway.registry.pulls import Pulls
from slipway.registry.receiving import Receiving
from slipway.registry.recent import RecentBytes
from slipway.registry.roots import Roots
from slipway.registry.tagging import Words
from slipway.state import Database


class Registry:
    """Images in repositories, over one database and one content store; the parts for blobs, uploads, lists, documents
    and rules are attributes."""

    def __init__(self, database: Database, blobs: ContentStore) -> None:
        self._database = database
        self.blobs = blobs
        links = Links(database)
        self.linked = LinkedBlobs(database, blobs, links)
        self.uploads = Receiving(blobs, links)
        self.lists = Lists(database)
        self.documents = Documents(database, blobs, self.linked)
        self.roots = Roots(database)
        self.rules = ProjectRules(database)
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
        digest = _sha512(data) if reference.startswith("sha512:") else Digest.of(data)
        if ":" in reference and Digest.parse(reference) != digest:
            raise Invalid(f"the manifest's digest is {digest}, not {reference}")
        if ":" not in reference and not is_tag(reference):
            raise Invalid(f"not a tag: {reference[:200]!r}")
        async with holding(self.blobs, "manifest") as lease:
            # All of it leased before it is looked for: what is here now is here when the transaction ends.
            sizes, words = await asyncio.to_thread(self._put_manifest, lease, data, digest, manifest)
            try:
                async with self._database.session() as session:
                    owner = await repositories.ensure(session, repository)
                    await manifests.check_references(session, owner, manifest, sizes)
                    row = await manifests.record(session, owner, manifest, digest, len(data), by)
                    tag = "" if ":" in reference else reference
                    if tag and moved is not None:
                        await merge.apply(session, owner, tag, row, moved.move, moved.by)
                    elif tag:
                        await tagging.put(session, owner, tag, row, by)
                    if tag and manifest.subject is None:
                        tagging.describe(owner, tag, words)
                    await tagging.pushed(session, owner, digest, by, tag)
            except usage.QuotaExceeded:
                await self._refused(events.QUOTA, repository, reference, digest, by)
                raise
        return StoredManifest(data, manifest.media_type, digest)

    def _put_manifest(
        self, lease: BlobLease, data: bytes, digest: Digest, manifest: Manifest | Index
    ) -> tuple[Mapping[Digest, int | None], Words]:
        """Store the bytes; the sizes of the blobs that the manifest needs, leased, and what it says of itself."""
        sizes = lease.hold([digest, *manifests.needs(manifest)])
        manifests.keep_bytes(self.blobs, data, digest)
        return sizes, words_of(self.blobs, manifest)

    async def _refused(self, kind: str, repository: str, reference: str, digest: Digest, by: str) -> None:
        tag = "" if ":" in reference else reference
        project = repositories.project_of(repository)
        async with self._database.session() as session:
            await events.emit(
                session, kind, project, repository, by=by, tag=tag, digest=str(digest), allowed=False
            )

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
            words = await asyncio.to_thread(words_of, self.blobs, manifest)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                await repositories.link(
                    session, owner, *((item.digest, item.size) for item in manifest.references)
                )
                row = await manifests.record(session, owner, manifest, digest, len(raw), by)
                for tag in tags:
                    await tagging.put(session, owner, tag, row, by)
                    tagging.describe(owner, tag, words)
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
            words = await asyncio.to_thread(words_of, self.blobs, index)
            async with self._database.session() as session:
                owner = await repositories.require(session, repository)
                await manifests.check_references(session, owner, index, {})
                row = await manifests.record(session, owner, index, digest, len(raw), by)
                for tag in tags:
                    await tagging.put(session, owner, tag, row, by)
                    tagging.describe(owner, tag, words)
                    await tagging.pushed(session, owner, digest, by, tag)
        return Descriptor(index.media_type, digest, len(raw))

    async def adopt_image(self, repository: str, tag: str, data: bytes, manifest: Manifest) -> Digest:
        """A pulled image, its manifest exactly as it was sent; the blobs are in the store, leased by the caller."""
        digest = Digest.of(data)
        async with holding(self.blobs, "image", digest):
            await asyncio.to_thread(self.blobs.put, data)
            words = await asyncio.to_thread(words_of, self.blobs, manifest)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                await repositories.link(
                    session, owner, *((item.digest, item.size) for item in manifest.references)
                )
                row = await manifests.record(session, owner, manifest, digest, len(data))
                if tag:
                    await tagging.put(session, owner, tag, row)
                    tagging.describe(owner, tag, words)
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


def _sha512(data: bytes) -> Digest:
    return Digest("sha512", hashlib.sha512(data).hexdigest())
