"""What earlier operations made, by key. Rows are in the database, layers in the content store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from datetime import timedelta

from sqlalchemy import delete, select, update

from slipway.base.clock import now
from slipway.build.made import Made
from slipway.content import ContentStore
from slipway.oci import Descriptor, Digest
from slipway.snapshots import LayerRef
from slipway.state import Database
from slipway.state.tables import BuildCache as Row

_TOUCH = timedelta(hours=1)
_BATCH = 500


class BuildCache:
    """Lookups and records. A record whose layer is gone from the store is a miss."""

    def __init__(self, database: Database, blobs: ContentStore) -> None:
        self._database = database
        self._blobs = blobs

    async def get(self, key: str) -> Made | None:
        async with self._database.read() as session:
            row = await session.get(Row, key)
        if row is None:
            return None
        if now() - row.used > _TOUCH:
            async with self._database.session() as session:
                await session.execute(update(Row).where(Row.key == key).values(used=now()))
        if row.empty:
            return Made(None, 0, row.created)
        digest = Digest.parse(row.layer_digest)
        if await asyncio.to_thread(self._blobs.size, digest) is None:
            return None
        blob = Descriptor(row.layer_media_type, digest, row.size)
        return Made(LayerRef(Digest.parse(row.diff_id), blob), row.uncompressed, row.created)

    async def beyond(self, age: timedelta, size: int) -> dict[str, int]:
        """Records unused for longer than ``age``, and the least recently used until the rest is at most ``size`` bytes.

        By key, each with the bytes of a layer that no record that stays has.
        """
        query = select(Row.key, Row.layer_digest, Row.size, Row.used).order_by(Row.used.desc())
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        oldest = now() - age
        kept: set[str] = set()
        gone: dict[str, int] = {}
        total = 0
        for key, digest, length, used in rows:
            new = length if digest not in kept else 0
            if used < oldest or total + new > size:
                gone[key] = new
            else:
                total += new
                kept.add(digest)
        return gone

    async def forget(self, keys: Iterable[str]) -> None:
        """Remove records; what they pointed at goes when blobs are collected."""
        async with self._database.session() as session:
            for batch in _batched(keys, _BATCH):
                await session.execute(delete(Row).where(Row.key.in_(batch)))

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


def _batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """``items`` in lists of at most ``size``."""
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch
