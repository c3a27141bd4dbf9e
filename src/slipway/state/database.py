"""Connections, sessions and the migration to the newest schema."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from slipway.errors import Exhausted, Unavailable

_READING = "slipway_reading"
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database, by SQLAlchemy URL (``sqlite+aiosqlite:///path`` or ``postgresql+asyncpg://…``)."""

    def __init__(self, url: str) -> None:
        self.engine = create_async_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        reading = self.engine.execution_options(**{_READING: True})
        self._readers = async_sessionmaker(reading, expire_on_commit=False)
        self._direct: sqlite3.Connection | None = None
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin)

    @classmethod
    def sqlite(cls, path: Path) -> Database:
        return cls(f"sqlite+aiosqlite:///{path}")

    async def migrate(self) -> None:
        """Bring the schema to the newest version; does nothing when it is."""
        async with self.engine.begin() as connection:
            await connection.run_sync(_upgrade)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: committed when the block ends, rolled back when it raises.

        Raises ``Exhausted`` when the disk is full and ``Unavailable`` when the database does not answer.
        """
        try:
            async with self._sessions.begin() as session:
                yield session
        except OperationalError as error:
            raise _foreign(error) from error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database and waits for no writer; what it changes is thrown away.

        Raises ``Unavailable`` when the database does not answer.
        """
        try:
            async with self._readers() as session:
                yield session
        except OperationalError as error:
            raise _foreign(error) from error

    async def look_up(self, query: str, **values: str | int) -> Sequence[Sequence[Any]]:
        """The rows of a query that finds a few by an index, as they are now; for requests that come by the thousand.

        SQLite answers on this very thread: that takes some 10 µs where the pages are in memory, less than handing the
        question to another thread would hold up the loop. A reader of a database in WAL mode waits for nobody but a
        recovery after a crash; who meets one does not wait here.
        """
        if self.engine.dialect.name == "sqlite":
            try:
                return self._direct_connection().execute(query, values).fetchall()
            except sqlite3.OperationalError:
                pass  # what is wrong, if it still is, the usual way tells
        async with self.read() as session:
            return (await session.execute(text(query), values)).all()

    def _direct_connection(self) -> sqlite3.Connection:
        if self._direct is None:
            path = self.engine.url.database or ""
            self._direct = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._direct.execute("PRAGMA query_only = ON")
        return self._direct

    async def dispose(self) -> None:
        if self._direct is not None:
            self._direct.close()
            self._direct = None
        await self.engine.dispose()


def _foreign(error: DBAPIError) -> Exception:
    text = str(error.orig)
    if "full" in text:
        return Exhausted(f"the database cannot be written: {text}", hint="free some disk space and try again")
    return Unavailable(f"the database does not answer: {text}")


def _prepare_sqlite(connection: DBAPIConnection, _record: Any) -> None:
    # SQLAlchemy emits BEGIN itself (below); pysqlite's own implicit BEGIN would come too late to lock.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=20000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another wrote in between;
    # taking the write lock first makes it wait instead. One that only reads needs no lock at all.
    reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
