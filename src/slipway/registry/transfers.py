"""Images on their way out: as one file, as a plain root, or to another registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from slipway.base.progress import Progress
from slipway.content import BlobLease, holding
from slipway.distribution import Login, RemoteRegistry, image_archive, push
from slipway.errors import Invalid, Unsupported
from slipway.layers import tar_blocks
from slipway.oci import Descriptor, Index, Platform, Reference, parse_manifest
from slipway.registry.manifests import StoredManifest
from slipway.registry.registry import Registry
from slipway.snapshots import LayerRef, SnapshotStore

Format = Literal["oci", "docker", "tar"]
_LEASE = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Transfers:
    """``reference`` is always an image of this registry; who may have it the caller has checked. Without ``snapshots``,
    which need root, no plain roots are given."""

    registry: Registry
    snapshots: SnapshotStore | None

    async def export(
        self, reference: Reference, form: Format, platform: Platform | None = None
    ) -> AsyncIterator[bytes]:
        """``oci`` and ``docker`` are image archives, ``tar`` is what a container would see as its root.

        An archive has all platforms of an index unless ``platform`` is given; a root is of one. Raises ``NotFound``
        before the first piece, and ``Unsupported``.
        """
        stored = await self._stored(reference, platform)
        if form == "tar":
            return self._leased(stored, await self._root(reference, platform))
        pieces = image_archive(
            self.registry.blobs, reference, stored.data, stored.media_type, docker=form == "docker"
        )
        return self._leased(stored, pieces)

    async def push(
        self, reference: Reference, target: Reference, login: Login | None, progress: Progress
    ) -> None:
        """Copy an image to another registry; what is there already is not sent again."""
        if not target.registry:
            raise Invalid(f"{target} names no registry", hint="e.g. registry.example.org/team/app:1")
        stored = await self._stored(reference, None)

        def uploaded(blob: Descriptor, known: bool) -> None:
            progress({"event": "blob", "digest": str(blob.digest), "size": blob.size, "known": known})

        async with holding(self.registry.blobs, f"push {reference}", ttl=_LEASE) as lease:
            await asyncio.to_thread(self._hold, lease, stored)
            async with RemoteRegistry(target.registry, login) as remote:
                target = target if target.tag or target.digest else target.with_tag("latest")
                await push(remote, target, stored.data, stored.media_type, self.registry.blobs, uploaded)

    async def _stored(self, reference: Reference, platform: Platform | None) -> StoredManifest:
        stored = await self.registry.get_manifest(reference.repository, reference.target)
        if platform is not None and isinstance(parse_manifest(stored.data, stored.media_type), Index):
            found = await self.registry.resolve(reference, platform)
            return await self.registry.get_manifest(reference.repository, str(found.digest))
        return stored

    async def _root(self, reference: Reference, platform: Platform | None) -> Iterator[bytes]:
        if self.snapshots is None:
            raise Unsupported(
                "this server has no machine to unpack an image on",
                hint="take an archive of its layers: oci, docker",
            )
        found = await self.registry.resolve(reference, platform)
        pairs = zip(found.config.diff_ids, found.manifest.layers, strict=True)
        layers = [LayerRef(diff_id, blob) for diff_id, blob in pairs]
        chain = await asyncio.to_thread(self.snapshots.ensure, layers)
        view = await asyncio.to_thread(self.snapshots.view, chain)

        def pieces() -> Iterator[bytes]:
            with view:
                yield from tar_blocks(view.walk(""))

        return pieces()

    async def _leased(self, stored: StoredManifest, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        async with holding(self.registry.blobs, "export", ttl=_LEASE) as lease:
            await asyncio.to_thread(self._hold, lease, stored)
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece

    def _hold(self, lease: BlobLease, stored: StoredManifest) -> None:
        """Everything the image is made of stays until the lease ends, whoever deletes it meanwhile."""
        lease.add(stored.digest)
        manifest = parse_manifest(stored.data, stored.media_type)
        for item in manifest.references:
            lease.add(item.digest)
            if isinstance(manifest, Index):
                data = self.registry.blobs.read(item.digest)
                self._hold(lease, StoredManifest(data, item.media_type, item.digest))
