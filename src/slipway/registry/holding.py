"""A lease that waits for a slow store in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from slipway.content import BlobLease, ContentStore
from slipway.oci import Digest

_LEASE = timedelta(minutes=10)


@asynccontextmanager
async def holding(
    blobs: ContentStore, owner: str, *digests: Digest, ttl: timedelta = _LEASE
) -> AsyncIterator[BlobLease]:
    """Protect ``digests`` while the block makes a reference to them."""
    lease = await asyncio.to_thread(blobs.lease, owner, ttl)
    try:
        for digest in digests:
            await asyncio.to_thread(lease.add, digest)
        yield lease
    finally:
        await asyncio.to_thread(lease.release)
