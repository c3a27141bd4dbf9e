"""Connections to PostgreSQL: tried before use, given up after a while, made again by themselves."""

from __future__ import annotations

from typing import Any

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from slipway.errors import Unavailable

_CONNECT_SECONDS = 10.0
_STATEMENT_SECONDS = 60.0
_POOL, _MORE, _WAIT_SECONDS = 10, 10, 20


def make_engine(url: str) -> AsyncEngine:
    """Connections that fail to be made are ``Unavailable``, whichever of its many errors the driver chose."""
    address = make_url(url)
    words = dict(address.get_dialect()().create_connect_args(address)[1])

    async def connect() -> Any:
        try:
            return await asyncpg.connect(
                **words, timeout=_CONNECT_SECONDS, command_timeout=_STATEMENT_SECONDS
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(
                f"the database does not answer: {error or type(error).__name__}", hint="database.url"
            ) from error

    return create_async_engine(
        address, pool_pre_ping=True, pool_size=_POOL, max_overflow=_MORE, pool_timeout=_WAIT_SECONDS,
        async_creator=connect,
    )  # fmt: skip
