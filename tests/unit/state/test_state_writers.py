"""SQLite has one writer: the others wait in line, and none sleeps while nobody writes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sqlalchemy import func, select, text

from slipway.base.clock import now
from slipway.state import Database
from slipway.state.tables import User

_HELD = 0.02


async def test_writers_take_turns_in_the_order_they_came(tmp_path: Path) -> None:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    order: list[int] = []

    async def write(number: int) -> None:
        async with database.session() as session:
            session.add(User(name=f"user{number}", created=now(), password_hash=""))
            await session.flush()
            order.append(number)
            await asyncio.sleep(_HELD)

    began = time.monotonic()
    for number in range(40):
        await write(number)
    alone, began = time.monotonic() - began, time.monotonic()
    await asyncio.gather(*(write(number) for number in range(40, 80)))
    assert order == list(range(80))
    assert time.monotonic() - began < alone * 3 + 1
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 80
    await database.dispose()


async def test_who_fails_or_is_cancelled_lets_the_next_one_write(tmp_path: Path) -> None:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    entered = asyncio.Event()

    async def hold() -> None:
        async with database.session():
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await entered.wait()
    waiting = asyncio.create_task(hold())
    await asyncio.sleep(0.05)
    waiting.cancel()
    task.cancel()
    await asyncio.gather(task, waiting, return_exceptions=True)
    async with asyncio.timeout(60), database.session() as session:
        session.add(User(name="later", created=now(), password_hash=""))
    await database.dispose()


async def test_who_is_told_that_something_is_written_may_lose_the_power(tmp_path: Path) -> None:
    """A commit waits for the disk (2: FULL), on each connection that writes."""
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    async with database.session() as session:
        assert await session.scalar(text("PRAGMA synchronous")) == 2
    await database.write("DELETE FROM users WHERE name = :name", [{"name": "nobody"}])
    assert database._writer is not None
    assert database._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    await database.dispose()
