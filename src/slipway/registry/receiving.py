"""Blobs on their way in: uploads that any of several servers can go on with.

What has arrived is in the content store, and an upload is nothing but that: its id says which repository it is for.
Whoever holds the id of an upload of one repository finds nothing under it in another, and no id can be made up, for the
content store would have to have an upload of that name.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from datetime import timedelta

from slipway.base.ids import new_id
from slipway.content import BlobLease, BlobUpload, ContentStore
from slipway.errors import NotFound
from slipway.oci import Digest
from slipway.registry import repositories
from slipway.registry.links import Links
from slipway.registry.uploads import UploadState, check_chunk
from slipway.state import Database

UPLOAD_AGE = timedelta(days=1)
_LEASE = timedelta(minutes=10)
_NONCE = 24


class Receiving:
    """Each step is one turn in a thread, for clients push dozens of small blobs at once."""

    def __init__(self, database: Database, blobs: ContentStore, links: Links) -> None:
        self._database = database
        self._blobs = blobs
        self._links = links

    async def start(self, repository: str) -> UploadState:
        """Raises ``NotFound`` when there is no such project."""
        await self._links.ensure(repository)
        upload_id = _id_for(repository, new_id(_NONCE))
        await asyncio.to_thread(lambda: self._blobs.upload(upload_id, create=True).close())
        return UploadState(upload_id, 0)

    async def state(self, repository: str, upload_id: str) -> UploadState:
        upload = await self._find(repository, upload_id)
        await asyncio.to_thread(upload.close)
        return UploadState(upload_id, upload.offset)

    async def _find(self, repository: str, upload_id: str) -> BlobUpload:
        if upload_id != _id_for(repository, upload_id[:_NONCE]):
            async with self._database.read() as session:
                await repositories.require(session, repository)
            raise NotFound(f"there is no upload {upload_id[:80]!r} in {repository!r}")
        return await asyncio.to_thread(self._blobs.upload, upload_id)

    async def open(
        self, repository: str, upload_id: str, content_range: str | None, length: int | None
    ) -> BlobUpload:
        """The upload, ready to be appended to. The caller closes or commits it. Raises ``OutOfOrder``."""
        upload = await self._find(repository, upload_id)
        try:
            check_chunk(content_range, upload.offset, length)
        except BaseException:
            await asyncio.to_thread(upload.close)
            raise
        return upload

    async def finish(self, repository: str, upload: BlobUpload, digest: Digest) -> int:
        """Verify and publish the upload as a blob of the repository; its size. The upload is closed then.

        Raises ``Invalid`` on a mismatch; the upload stays open.
        """
        lease, size = await asyncio.to_thread(self._publish, upload, digest)
        try:
            await self._links.add(repository, digest, size)
        finally:
            await asyncio.to_thread(_end, lease, upload)
        return size

    def _publish(self, upload: BlobUpload, digest: Digest) -> tuple[BlobLease, int]:
        lease = self._blobs.lease("upload", _LEASE)
        try:
            lease.add(digest)
            return lease, int(upload.commit(digest)[1])
        except BaseException:
            lease.release()
            raise

    async def cancel(self, repository: str, upload_id: str) -> None:
        upload = await self._find(repository, upload_id)
        await asyncio.to_thread(upload.discard)

    async def expire(self) -> int:
        """Remove uploads that nobody has written to for a day."""
        found = await asyncio.to_thread(self._blobs.uploads)
        stale = [name for name, age in found if age > UPLOAD_AGE.total_seconds()]
        for name in stale:
            with suppress(NotFound):  # it ended meanwhile
                upload = await asyncio.to_thread(self._blobs.upload, name)
                await asyncio.to_thread(upload.discard)
        return len(stale)


def _id_for(repository: str, nonce: str) -> str:
    return nonce + hashlib.sha256(f"{nonce} {repository}".encode()).hexdigest()[:32]


def _end(lease: BlobLease, upload: BlobUpload) -> None:
    try:
        upload.close()
    finally:
        lease.release()
