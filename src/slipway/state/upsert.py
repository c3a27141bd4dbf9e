"""Rows that two servers may write at the same moment: neither fails, and both go on with the same row."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.state.tables import Base


async def add_once(session: AsyncSession, table: type[Base], **values: Any) -> bool:
    """Insert unless the row is there (by any of its unique keys); whether this call made it.

    Waits for a transaction that is just inserting the same.
    """
    done = await session.execute(insert(session, table).values(**values).on_conflict_do_nothing())
    return bool(cast(CursorResult[Any], done).rowcount)


async def replace(session: AsyncSession, table: type[Base], **values: Any) -> None:
    """Insert, or set the other columns of the row that has this primary key."""
    keys = [column.name for column in table.__table__.primary_key]
    changed = {name: value for name, value in values.items() if name not in keys}
    await session.execute(
        insert(session, table).values(**values).on_conflict_do_update(index_elements=keys, set_=changed)
    )


def insert(session: AsyncSession, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
