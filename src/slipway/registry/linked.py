"""Blobs as a repository has them: only what is linked there can be read there."""

from __future__ import annotations

import asyncio

from slipway.content import ContentStore, holding
from slipway.errors import NotFound
from slipway.oci import Digest
from slipway.registry import repositories
from slipway.registry.links import Links
from slipway.state import Database
from slipway.state.tables import RepositoryBlob

_OF = "JOIN repositories ON repositories.id = repository_id WHERE repositories.name = :repository"
_LINK = f"SELECT digest FROM repository_blobs {_OF} AND digest = :digest"


class LinkedBlobs:
    """The links are in the database, the bytes in the content store, once for all repositories."""

    def __init__(self, database: Database, blobs: ContentStore, links: Links) -> None:
        self._database = database
        self._blobs = blobs
        self._links = links

    async def size(self, repository: str, digest: Digest, *, keep: bool = False) -> int:
        """Raises ``NotFound`` unless the blob is linked here, whatever other repositories have.

        ``keep``: somebody asks in order to reference it soon, so it is as young as if it had just been pushed.
        """
        linked = await self._database.look_up(_LINK, repository=repository, digest=str(digest))
        look = self._blobs.renew if keep else self._blobs.size
        size = await asyncio.to_thread(look, digest) if linked else None
        if size is None:
            raise NotFound(f"there is no blob {digest} in {repository!r}")
        return size

    async def delete(self, repository: str, digest: Digest) -> None:
        """Unlink; the bytes go when nobody needs them."""
        async with self._database.session() as session:
            owner = await repositories.require(session, repository)
            linked = await session.get(RepositoryBlob, (owner.id, str(digest)))
            if linked is None:
                raise NotFound(f"there is no blob {digest} in {repository!r}")
            await session.delete(linked)

    async def mount(self, repository: str, digest: Digest, source: str) -> bool:
        """Link a blob that ``source`` has (the caller may read it there); whether it could be."""
        async with holding(self._blobs, "mount", digest):
            try:
                size = await self.size(source, digest)
            except NotFound:
                return False
            await self._links.add(repository, digest, size)
        return True
