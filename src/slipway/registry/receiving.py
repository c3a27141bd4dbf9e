"""Blobs on their way in: uploads that any of several servers can go on with.

What has arrived is in the content store, and an upload is nothing but that: its id says which repository it is for.
Whoever holds the id of an upload of one repository finds nothing under it in another, and no id can be made up, for the
content store would have to have an upload of that name.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from slipway.base.ids import new_id
from slipway.content import BlobUpload, ContentStore
from slipway.errors import NotFound
from slipway.oci import Digest
from slipway.registry.links import Links
from slipway.registry.uploads import UploadState, check_chunk

UPLOAD_AGE = timedelta(days=1)
"""How long an upload is waited for, and a blob that was pushed for the manifest that is to come after all others."""

_NONCE = 24


class Receiving:
    """Each step is one turn in a thread, for clients push dozens of small blobs at once."""

    def __init__(self, blobs: ContentStore, links: Links) -> None:
        self._blobs = blobs
        self._links = links

    async def start(self, repository: str) -> UploadState:
        """Raises ``NotFound`` when there is no such project."""
        await self._links.ensure(repository)
        upload_id = _id_for(repository, new_id(_NONCE))
        await asyncio.to_thread(lambda: self._blobs.upload(upload_id, create=True).close())
        return UploadState(upload_id, 0)

    async def state(self, repository: str, upload_id: str) -> UploadState:
        return UploadState(upload_id, await asyncio.to_thread(self._offset, repository, upload_id))

    def _offset(self, repository: str, upload_id: str) -> int:
        upload = self._find(repository, upload_id)
        upload.close()
        return upload.offset

    def _find(self, repository: str, upload_id: str) -> BlobUpload:
        if upload_id != _id_for(repository, upload_id[:_NONCE]):
            raise NotFound(f"there is no upload {upload_id[:80]!r} in {repository!r}")
        return self._blobs.upload(upload_id)

    def open(
        self, repository: str, upload_id: str, content_range: str | None, length: int | None
    ) -> BlobUpload:
        """The upload, ready to be appended to. The caller closes or commits it. Raises ``OutOfOrder``. Blocks."""
        upload = self._find(repository, upload_id)
        try:
            check_chunk(content_range, upload.offset, length)
        except BaseException:
            upload.close()
            raise
        return upload

    async def finish(self, repository: str, digest: Digest, ready: Callable[[], BlobUpload]) -> int:
        """Verify and publish the upload that ``ready`` makes complete (in a thread) as a blob of the repository.

        Returns its size. Raises ``Invalid`` on a mismatch. What is published is young, and so is left alone by
        collection until a manifest refers to it.
        """
        size = await asyncio.to_thread(lambda: ready().commit(digest)[1])
        await self._links.add(repository, digest, size)
        return size

    async def cancel(self, repository: str, upload_id: str) -> None:
        await asyncio.to_thread(lambda: self._find(repository, upload_id).discard())

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
