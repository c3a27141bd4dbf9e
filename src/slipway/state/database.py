"""Connections, sessions and the migration to the newest schema."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from slipway.state.foreign import foreign_errors
from slipway.state.postgres import make_engine
from slipway.state.sqlite import connect

_READING = "slipway_reading"
_LOCK = 7_064_155_711  # any number that no other program locks in this database
# What was answered outlives the machine's power: in WAL mode only FULL waits for the disk at each commit.
_PRAGMAS = ("busy_timeout=20000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database, by SQLAlchemy URL (``sqlite+aiosqlite:///path`` or ``postgresql+asyncpg://…``)."""

    def __init__(self, url: str) -> None:
        self.engine = (
            make_engine(url)
            if url.startswith("postgresql")
            else create_async_engine(url, connect_args={"async_creator_fn": connect})
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        options: dict[str, Any] = {_READING: True}
        if self.engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        reading = self.engine.execution_options(**options)
        self._readers = async_sessionmaker(reading, expire_on_commit=False)
        self._direct: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._direct_writing = threading.Lock()
        # SQLite has one writer, and lets the others ask again after ever longer sleeps: here each waits for its turn.
        self._writing: AbstractAsyncContextManager[Any] = nullcontext()
        if self.engine.dialect.name == "sqlite":
            self._writing = asyncio.Lock()
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin)

    @classmethod
    def sqlite(cls, path: Path) -> Database:
        return cls(f"sqlite+aiosqlite:///{path}")

    async def migrate(self) -> None:
        """Bring the schema to the newest version; does nothing when it is. Of several servers one does it."""
        with foreign_errors():
            async with self.engine.begin() as connection:
                if self.engine.dialect.name == "postgresql":
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                await connection.run_sync(_upgrade)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: committed when the block ends, rolled back when it raises.

        Raises ``Exhausted`` when the disk is full, ``Unavailable`` when the database does not answer, and ``Conflict``
        when another server removed what a row refers to.
        """
        with foreign_errors():
            async with self._writing, self._sessions.begin() as session:
                yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database and waits for no writer; what it changes is thrown away.

        Raises ``Unavailable`` when the database does not answer.
        """
        with foreign_errors():
            async with self._readers() as session:
                yield session

    @asynccontextmanager
    async def alone(self, key: int) -> AsyncIterator[bool]:
        """Whether this is the only server in such a block of ``key`` now. SQLite has one server only."""
        if self.engine.dialect.name != "postgresql":
            yield True
            return
        with foreign_errors():
            async with self.engine.connect() as plain:
                # The server forgets the lock when the connection ends, and no transaction is held open meanwhile.
                connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
                found = await connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key})
                mine = bool(found.scalar())
                try:
                    yield mine
                finally:
                    if mine:
                        await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})

    @property
    def is_local(self) -> bool:
        """A file of this server's own, which no other server shares."""
        return self.engine.dialect.name == "sqlite"

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

    async def write(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """One plain statement for each of ``rows``, all in one transaction; for requests that come by the thousand.

        Moments are ``datetime`` with a zone. Raises as ``session`` does.
        """
        if self.engine.dialect.name == "sqlite":
            plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
            try:
                async with self._writing:
                    await asyncio.to_thread(self._write_directly, statement, plain)
                return
            except sqlite3.Error:
                rows = plain  # what is wrong, if it still is, the usual way tells
        with foreign_errors():
            async with self.engine.begin() as connection:
                await connection.execute(text(statement), list(rows))

    def _write_directly(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        with self._direct_writing:
            if self._writer is None:
                path = self.engine.url.database or ""
                writer = sqlite3.connect(path, timeout=20, isolation_level=None, check_same_thread=False)
                for pragma in _PRAGMAS:
                    writer.execute(f"PRAGMA {pragma}")
                self._writer = writer
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                self._writer.executemany(statement, rows)
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.rollback()
                raise

    def _direct_connection(self) -> sqlite3.Connection:
        if self._direct is None:
            path = self.engine.url.database or ""
            self._direct = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._direct.execute("PRAGMA query_only = ON")
        return self._direct

    async def dispose(self) -> None:
        for connection in (self._direct, self._writer):
            if connection is not None:
                connection.close()
        self._direct = self._writer = None
        await self.engine.dispose()


def _prepare_sqlite(connection: DBAPIConnection, _record: Any) -> None:
    # SQLAlchemy emits BEGIN itself (below): pysqlite's own implicit BEGIN, which `connect` has switched off, would come
    # too late to lock.
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _plain(value: Any) -> Any:
    """A moment as SQLAlchemy writes it: UTC, without a zone."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return value


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
