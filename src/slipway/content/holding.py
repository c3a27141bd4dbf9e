"""A lease that waits for a slow store in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from slipway.content.protocol import BlobLease, ContentStore
from slipway.oci import Digest

_LEASE = timedelta(minutes=10)


@asynccontextmanager
async def holding(
    blobs: ContentStore, owner: str, *digests: Digest, ttl: timedelta = _LEASE
) -> AsyncIterator[BlobLease]:
    """Protect ``digests`` while the block makes a reference to them; the block may add more.

    A thread cannot be cancelled: a lease that was taken by the time the caller is cancelled is released, too.
    """
    taking = asyncio.ensure_future(asyncio.to_thread(blobs.lease, owner, ttl))
    try:
        lease = await asyncio.shield(taking)
    except asyncio.CancelledError:
        taking.add_done_callback(_unwanted)
        raise
    try:
        if digests:
            await asyncio.to_thread(_add, lease, digests)
        yield lease
    finally:
        await asyncio.shield(asyncio.to_thread(lease.release))


def _add(lease: BlobLease, digests: tuple[Digest, ...]) -> None:
    for digest in digests:
        lease.add(digest)


def _unwanted(taken: asyncio.Future[BlobLease]) -> None:
    if not taken.cancelled() and taken.exception() is None:
        taken.get_loop().run_in_executor(None, taken.result().release)
