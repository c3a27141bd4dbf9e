"""SQLite under asyncio: what takes microseconds is done at once, what may take longer by a thread.

The usual driver hands each part of each statement to a thread: the cursor, the statement, its rows, the cursor's end.
With many small statements the hand-over is most of the work, and every one of them waits for its turn among the
process's other threads. Here a query runs on the loop's own thread for as long as it is short, which its steps in
SQLite's machine tell; what turns out to be longer is begun again by the connection's thread. Single rows are inserted
and changed on the loop's thread too: the transaction has its lock by then, and nothing but memory and the page cache is
written. Whatever else changes something, and all that may wait for a lock or the disk (BEGIN IMMEDIATE, COMMIT), is
the thread's.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

R = TypeVar("R")
# About half a millisecond of SQLite's machine.
_STEPS = 20_000
_SELECT, _INSERT, _UPDATE = "SELECT", "INSERT", "UPDATE"
_BY_KEY = "USING INTEGER PRIMARY KEY (rowid=?)"
_PLANS = 1000


async def connect(path: str, **options: Any) -> Connection:
    """What SQLAlchemy's ``sqlite+aiosqlite`` calls in place of its driver."""
    connection = Connection()
    await connection.open(path, options)
    return connection


class Connection:
    """As much of aiosqlite's connection as SQLAlchemy uses. One statement at a time; one event loop has it."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "database")
        self._away = 0
        self._bounded = False
        self._wrote = False
        self._plans: dict[str, bool] = {}

    async def open(self, path: str, options: dict[str, Any]) -> None:
        options = options | {"isolation_level": None, "check_same_thread": False}
        connection: sqlite3.Connection = await self.by_thread(lambda: sqlite3.connect(path, **options))
        connection.set_progress_handler(lambda: self._bounded, _STEPS)
        self._connection = connection

    @property
    def raw(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("connection closed")
        return self._connection

    @property
    def is_free(self) -> bool:
        """Whether the thread has nothing to do: a statement whose waiter was cancelled goes on."""
        return not self._away

    async def by_thread(self, work: Callable[[], R]) -> R:
        def ended(_future: object) -> None:
            self._away -= 1

        self._away += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # The executor's own future cannot be cancelled once it runs; a place in the queue is still a place.
        waiting = asyncio.shield(future)
        future.add_done_callback(ended)
        return await waiting

    async def execute(self, cursor: sqlite3.Cursor, operation: str, values: Sequence[Any]) -> list[Any]:
        """The rows, all of them."""

        def work() -> list[Any]:
            cursor.execute(operation, values)
            return cursor.fetchall() if cursor.description else []

        word = operation.lstrip()[:6].upper()
        self._wrote = self._wrote or not (word == _SELECT or operation == "BEGIN")
        if not self.is_free:
            return await self.by_thread(work)
        if operation == "BEGIN" or (self.raw.in_transaction and self._is_one_row(word, operation, values)):
            return work()
        if word == _SELECT:
            self._bounded = True
            try:
                return work()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                    raise
            finally:
                self._bounded = False
        return await self.by_thread(work)

    def _is_one_row(self, word: str, operation: str, values: Sequence[Any]) -> bool:
        """Whether a statement can change one row at the most, so that it is short. SQLite's own plan of it says so."""
        if word == _INSERT:
            return _SELECT not in operation
        if word != _UPDATE:
            return False
        if operation not in self._plans:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            steps = [row[3] for row in self.raw.execute(f"EXPLAIN QUERY PLAN {operation}", values)]
            self._plans[operation] = bool(steps) and all(step.endswith(_BY_KEY) for step in steps)
        return self._plans[operation]

    def wrote(self) -> None:
        """The transaction has something to make last."""
        self._wrote = True

    async def _end(self, work: Callable[[], None]) -> None:
        if self.is_free and not self._wrote:
            work()
        else:
            await self.by_thread(work)
        self._wrote = False

    async def commit(self) -> None:
        await self._end(self.raw.commit)

    async def rollback(self) -> None:
        await self._end(self.raw.rollback)

    async def create_function(self, *arguments: Any, **options: Any) -> None:
        self.raw.create_function(*arguments, **options)

    def cursor(self) -> Cursor:
        return Cursor(self)

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self.by_thread(connection.close)
        self._thread.shutdown(wait=False)

    def stop(self) -> None:
        """For a connection that nobody closed, and that has no loop any more."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._thread.submit(connection.close)
        self._thread.shutdown(wait=False)


class Cursor:
    """A statement and its rows, which are all here once it was executed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = connection.raw.cursor()
        self._rows: list[Any] = []
        self.arraysize = 1

    async def __aenter__(self) -> Cursor:
        return self

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    async def execute(self, operation: str, values: Sequence[Any] = ()) -> Cursor:
        self._rows = await self._connection.execute(self._cursor, operation, values)
        return self

    async def executemany(self, operation: str, values: Sequence[Sequence[Any]]) -> Cursor:
        self._connection.wrote()
        await self._connection.by_thread(lambda: self._cursor.executemany(operation, values))
        return self

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._rows = []
        if self._connection.is_free:
            self._cursor.close()
