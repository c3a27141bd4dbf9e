"""What earlier operations made, by key. Rows are in the database, layers in the content store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway.base.clock import now
from slipway.content import LocalStore
from slipway.oci import Descriptor, Digest
from slipway.snapshots import LayerRef
from slipway.state import Database
from slipway.state.tables import BuildCache as Row

_TOUCH = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Made:
    """The layer an operation made (``None``: it changed nothing) and when."""

    layer: LayerRef | None
    uncompressed: int
    created: datetime


class BuildCache:
    """Lookups and records. A record whose layer is gone from the store is a miss."""

    def __init__(self, database: Database, blobs: LocalStore) -> None:
        self._database = database
        self._blobs = blobs

    async def get(self, key: str) -> Made | None:
        async with self._database.session() as session:
            row = await session.get(Row, key)
            if row is not None and now() - row.used > _TOUCH:
                row.used = now()
        if row is None:
            return None
        if row.empty:
            return Made(None, 0, row.created)
        digest = Digest.parse(row.layer_digest)
        if await asyncio.to_thread(self._blobs.size, digest) is None:
            return None
        blob = Descriptor(row.layer_media_type, digest, row.size)
        return Made(LayerRef(Digest.parse(row.diff_id), blob), row.uncompressed, row.created)

    async def put(self, key: str, made: Made, description: str) -> None:
        row = Row(
            key=key,
            empty=made.layer is None,
            layer_media_type=made.layer.blob.media_type if made.layer else "",
            layer_digest=str(made.layer.blob.digest) if made.layer else "",
            diff_id=str(made.layer.diff_id) if made.layer else "",
            size=made.layer.blob.size if made.layer else 0,
            uncompressed=made.uncompressed,
            created=made.created,
            used=made.created,
            detail={"description": description[:500]},
        )
        async with self._database.session() as session:
            await session.merge(row)
