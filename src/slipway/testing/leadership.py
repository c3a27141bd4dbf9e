"""Who of several API servers leads, as their database says."""

from __future__ import annotations

import asyncio

from slipway.state import Database
from slipway.state.tables import Lease


def leader_of(url: str) -> str:
    """The address in the row of the lease, valid or not; empty where there is none. Not for an event loop."""
    return asyncio.run(_leader_of(url))


async def _leader_of(url: str) -> str:
    database = Database(url)
    try:
        async with database.read() as session:
            row = await session.get(Lease, "platform")
            return row.address if row is not None else ""
    finally:
        await database.dispose()
