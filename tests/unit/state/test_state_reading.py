"""Reading waits for no writer, and changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, text

from slipway.base.clock import now
from slipway.errors import Unavailable
from slipway.state import Database
from slipway.state.tables import Project


async def _database(tmp_path: Path) -> Database:
    found = Database.sqlite(tmp_path / "state.db")
    await found.migrate()
    return found


async def test_a_reader_goes_on_while_another_writes(tmp_path: Path) -> None:
    database = await _database(tmp_path)
    async with database.session() as writing:
        writing.add(Project(name="one", public=False, policy={}, created=now()))
        await writing.flush()
        async with asyncio.timeout(60):
            async with database.read() as reading:
                assert list(await reading.scalars(select(Project.name))) == []
    async with database.read() as reading:
        assert list(await reading.scalars(select(Project.name))) == ["one"]
    await database.dispose()


async def test_a_reader_sees_one_state_from_beginning_to_end(tmp_path: Path) -> None:
    database = await _database(tmp_path)
    async with database.read() as reading:
        assert list(await reading.scalars(select(Project.name))) == []
        async with database.session() as writing:
            writing.add(Project(name="one", public=False, policy={}, created=now()))
        assert list(await reading.scalars(select(Project.name))) == []
    await database.dispose()


async def test_what_a_reader_changes_is_thrown_away(tmp_path: Path) -> None:
    database = await _database(tmp_path)
    async with database.read() as reading:
        await reading.execute(
            text("INSERT INTO projects (name, public, policy, created) VALUES ('x', 0, '{}', 0)")
        )
    async with database.read() as reading:
        assert list(await reading.scalars(select(Project.name))) == []
    await database.dispose()


async def test_looking_up_waits_for_no_writer_sees_what_is_committed_and_changes_nothing(
    tmp_path: Path,
) -> None:
    database = await _database(tmp_path)
    query = "SELECT name FROM projects WHERE name = :name"
    async with database.session() as writing:
        writing.add(Project(name="one", public=False, policy={}, created=now()))
        await writing.flush()
        async with asyncio.timeout(60):
            assert list(await database.look_up(query, name="one")) == []
    assert [tuple(row) for row in await database.look_up(query, name="one")] == [("one",)]
    with pytest.raises(Unavailable):
        await database.look_up("SELECT nothing FROM projects")
    await database.look_up("DELETE FROM projects WHERE name = :name RETURNING name", name="one")
    assert [tuple(row) for row in await database.look_up(query, name="one")] == [("one",)]
    await database.dispose()
