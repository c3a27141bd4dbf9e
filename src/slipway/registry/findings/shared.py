"""One index of advisories for all servers of a site: its file is a blob, and a row of the database says which.

Each server has a copy, and looks twice a minute whether there is a newer one. A server alone has the file, and no row.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
from datetime import timedelta
from pathlib import Path

from slipway.base.clock import now
from slipway.base.ids import new_id
from slipway.content import BlobLease, ContentStore, holding
from slipway.errors import NotFound, SlipwayError, Unavailable
from slipway.oci import Digest
from slipway.registry.findings.index import Advisories
from slipway.registry.findings.osv import Counts
from slipway.state import Database, replace
from slipway.state.tables import SharedFile

log = logging.getLogger(__name__)
_NAME = "advisories"
_EVERY_SECONDS = 30.0
_LEASE = timedelta(hours=1)
_PIECE = 1 << 20


class SharedAdvisories:
    """``index`` is this server's copy, at ``path``. One server at a time may ``load`` and ``remove``."""

    def __init__(self, database: Database, blobs: ContentStore, path: Path) -> None:
        self.index = Advisories(path)
        self._database = database
        self._blobs = blobs
        self._path = path
        self._known = ""

    async def load(self, file: Path, source: str) -> Counts:
        """See ``Advisories.load``; afterwards the others get it, too."""
        await self.fetch()
        counts = await asyncio.to_thread(self.index.load, file, source)
        await self._publish()
        return counts

    async def remove(self, source: str) -> None:
        await self.fetch()
        await asyncio.to_thread(self.index.remove, source)
        await self._publish()

    async def run_forever(self) -> None:
        """Keep the copy up to date. Ends at once where there is nobody to share with."""
        while not self._database.is_local:
            try:
                await self.fetch()
            except (SlipwayError, OSError) as error:
                log.warning("the advisories could not be brought up to date: %s", error)
            await asyncio.sleep(_EVERY_SECONDS)

    async def fetch(self) -> None:
        """Take the newest, unless it is here. What is here and nowhere else is given to the others."""
        if self._database.is_local:
            return
        async with self._database.read() as session:
            row = await session.get(SharedFile, _NAME)
        if row is None:
            if self._path.exists():
                await self._publish()
        elif row.digest != self._known:
            await asyncio.to_thread(self._take, Digest.parse(row.digest))
            self._known = row.digest

    def _take(self, digest: Digest) -> None:
        draft = self._path.with_name(f".{self._path.name}-{new_id()}")
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with self._blobs.open(digest) as source, draft.open("xb") as target:
                shutil.copyfileobj(source, target, _PIECE)
            os.rename(draft, self._path)  # the index sees that it is another file
        except NotFound as error:
            raise Unavailable(f"the advisories {digest} are not in the store") from error
        finally:
            draft.unlink(missing_ok=True)

    async def _publish(self) -> None:
        if self._database.is_local:
            return
        async with holding(self._blobs, "advisories", ttl=_LEASE) as lease:
            digest = await asyncio.to_thread(self._put, lease)
            async with self._database.session() as session:
                await replace(session, SharedFile, name=_NAME, digest=str(digest), changed=now())
        self._known = str(digest)

    def _put(self, lease: BlobLease) -> Digest:
        """The file as a blob, under the lease before it is one."""
        with self._path.open("rb") as file:
            digest = Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
            lease.add(digest)
            if self._blobs.renew(digest) is not None:
                return digest
            file.seek(0)
            with self._blobs.writer() as sink:
                while piece := file.read(_PIECE):
                    sink.write(piece)
                sink.commit(digest)
        return digest
