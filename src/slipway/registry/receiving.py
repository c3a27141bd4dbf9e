"""Blobs on their way in: uploads that any of several servers can go on with."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import delete

from slipway.base.clock import now
from slipway.base.ids import new_id
from slipway.content import BlobUpload, ContentStore
from slipway.errors import NotFound
from slipway.oci import Digest
from slipway.registry import repositories
from slipway.registry.holding import holding
from slipway.registry.uploads import UploadState, check_chunk
from slipway.state import Database
from slipway.state.tables import Upload

UPLOAD_AGE = timedelta(days=1)
_OF = "JOIN repositories ON repositories.id = repository_id WHERE repositories.name = :repository"
_UPLOAD = f"SELECT uploads.id FROM uploads {_OF} AND uploads.id = :id"


class Receiving:
    """Which uploads a repository has is in the database, what has arrived of them in the content store."""

    def __init__(self, database: Database, blobs: ContentStore) -> None:
        self._database = database
        self._blobs = blobs

    async def start(self, repository: str, owner: str) -> UploadState:
        upload_id = new_id(40)
        async with self._database.session() as session:
            row = await repositories.ensure(session, repository)
            session.add(Upload(id=upload_id, repository_id=row.id, owner=owner, created=now()))
        await asyncio.to_thread(lambda: self._blobs.upload(upload_id, create=True).close())
        return UploadState(upload_id, 0)

    async def state(self, repository: str, upload_id: str) -> UploadState:
        upload = await self._find(repository, upload_id)
        await asyncio.to_thread(upload.close)
        return UploadState(upload_id, upload.offset)

    async def _find(self, repository: str, upload_id: str) -> BlobUpload:
        if not await self._database.look_up(_UPLOAD, repository=repository, id=upload_id):
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
        """Verify and publish the upload as a blob of the repository; its size. Raises ``Invalid`` on a mismatch."""
        upload_id = upload.id
        async with holding(self._blobs, "upload", digest):
            _, size = await asyncio.to_thread(upload.commit, digest)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                await repositories.link(session, owner, digest, size)
                await session.execute(delete(Upload).where(Upload.id == upload_id))
        return int(size)

    async def cancel(self, repository: str, upload_id: str) -> None:
        upload = await self._find(repository, upload_id)
        await asyncio.to_thread(upload.discard)
        async with self._database.session() as session:
            await session.execute(delete(Upload).where(Upload.id == upload_id))

    async def expire(self) -> int:
        """Remove uploads that nobody has written to for a day."""
        found = await asyncio.to_thread(self._blobs.uploads)
        stale = [name for name, age in found if age > UPLOAD_AGE.total_seconds()]
        for name in stale:
            with suppress(NotFound):  # it ended meanwhile
                upload = await asyncio.to_thread(self._blobs.upload, name)
                await asyncio.to_thread(upload.discard)
            async with self._database.session() as session:
                await session.execute(delete(Upload).where(Upload.id == name))
        return len(stale)
