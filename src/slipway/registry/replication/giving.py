"""One change of a tag, given to another registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from slipway.base.throttle import Throttle
from slipway.content import BlobLease, holding
from slipway.distribution import RemoteRegistry
from slipway.distribution.push import push
from slipway.distribution.together import Turns
from slipway.errors import NotFound, Unsupported
from slipway.oci import Digest, Index, Manifest, Reference, parse_manifest
from slipway.registry.feed import Change
from slipway.registry.labels import labels_of
from slipway.registry.moves import MOVE_HEADER
from slipway.registry.registry import Registry
from slipway.registry.replication.filters import SiteFilter

_LEASE = timedelta(hours=12)
Given = Callable[[int], None]
"""Told the bytes of each blob that went over the line."""


class Giving:
    """Gives images of this registry to ``remote``. ``slipway``: it understands what our moves mean."""

    def __init__(
        self,
        registry: Registry,
        remote: RemoteRegistry,
        throttle: Throttle,
        *,
        slipway: bool,
        deletions: bool,
    ) -> None:
        self._registry = registry
        self._remote = remote
        self._throttle = throttle
        self._slipway = slipway
        self._deletions = deletions
        self._turns = Turns()

    async def give(self, change: Change, target: Reference, wanted: SiteFilter, given: Given) -> bool:
        """Whether there was something to give. ``target`` is the tag over there."""
        headers = {MOVE_HEADER: change.moved.header()} if self._slipway else {}
        if not change.digest:
            return self._deletions and await self._delete(target, headers)
        digest = Digest.parse(change.digest)
        async with holding(self._registry.blobs, "replication", ttl=_LEASE) as lease:
            try:
                if not wanted.wants_labels(await self._labels(change.repository, digest)):
                    return False
                await self._image(change.repository, digest, target, given, lease, headers)
            except NotFound:
                if await self._stands(change.repository, change.tag, digest):
                    raise
                return False  # removed here since: the next change says so
        return True

    async def _delete(self, target: Reference, headers: dict[str, str]) -> bool:
        try:
            await self._remote.delete_manifest(target, headers)
        except (NotFound, Unsupported):
            return False
        return True

    async def _stands(self, repository: str, reference: str, digest: Digest) -> bool:
        """Whether ``reference`` still leads there: what is listed may be gone."""
        try:
            return (await self._registry.get_manifest(repository, reference)).digest == digest
        except NotFound:
            return False

    async def _image(
        self,
        repository: str,
        digest: Digest,
        target: Reference,
        given: Given,
        lease: BlobLease,
        headers: dict[str, str],
    ) -> None:
        """With its children and what refers to them, each before what needs it; the tag at the end."""
        stored = await self._registry.get_manifest(repository, str(digest))
        await asyncio.to_thread(lease.add, digest)
        manifest = parse_manifest(stored.data, stored.media_type)
        there = await self._remote.digest_of(target.with_digest(digest)) is not None
        if isinstance(manifest, Index):
            for item in manifest.manifests:
                await self._image(repository, item.digest, target.with_digest(item.digest), given, lease, {})
        if isinstance(manifest, Manifest) and not there:
            for item in manifest.references:
                await asyncio.to_thread(lease.add, item.digest)
            await push(
                self._remote, target, stored.data, stored.media_type, self._registry.blobs,
                lambda blob, known: None if known else given(blob.size), self._throttle, headers,
                self._turns,
            )  # fmt: skip
        elif not there or target.digest is None:
            await self._remote.put_manifest(target, stored.data, stored.media_type, headers)
        for item in (await self._registry.documents.referrers(repository, digest)).manifests:
            if await self._stands(repository, str(item.digest), item.digest):
                await self._image(repository, item.digest, target.with_digest(item.digest), given, lease, {})

    async def _labels(self, repository: str, digest: Digest) -> list[dict[str, Any]]:
        """The labels of an image, or of each image of an index."""
        stored = await self._registry.get_manifest(repository, str(digest))
        manifest = parse_manifest(stored.data, stored.media_type)
        if isinstance(manifest, Index):
            return [
                labels
                for item in manifest.manifests
                for labels in await self._labels(repository, item.digest)
            ]
        return [await asyncio.to_thread(labels_of, self._registry.blobs, manifest)]
