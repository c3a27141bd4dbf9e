"""Logs of builds, as files and as rows: what is written is read, live and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.access import Access
from slipway.base.clock import now
from slipway.build.logs import BuildLogs, FileLogs, TableLogs
from slipway.errors import Unavailable
from slipway.state import Database
from slipway.state.tables import Build

BUILD = "b1"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database.sqlite(tmp_path / "state.db")
    await found.migrate()
    project = await Access(found, tmp_path / "keys").create_project("demo")
    words = {"app": "", "service": "", "owner": "", "source": "", "log_path": "", "limits": {}}
    async with found.session() as session:
        session.add(Build(id=BUILD, project_id=project.id, state="running", created=now(), **words))
    yield found
    await found.dispose()


@pytest.fixture(params=["files", "rows"])
def logs(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> BuildLogs:
    return FileLogs(tmp_path / "logs") if request.param == "files" else TableLogs(database, poll=0.01)


async def _read(logs: BuildLogs) -> list[bytes]:
    async def over() -> bool:
        return False

    return [line async for line in logs.read(BUILD, over)]


async def test_what_was_written_is_read(logs: BuildLogs) -> None:
    assert await _read(logs) == []
    writer = logs.writer(BUILD)
    lines = [b'{"n": %d, "text": "caf\xc3\xa9 \\u2028"}' % number for number in range(1000)]
    for line in lines:
        writer.write(line + b"\n")
    await writer.close()
    assert await _read(logs) == lines


async def test_a_log_is_followed_while_it_grows_and_to_its_very_end(logs: BuildLogs) -> None:
    ended = asyncio.Event()

    async def goes_on() -> bool:
        return not ended.is_set()

    async def follow() -> list[bytes]:
        found = []
        async for line in logs.read(BUILD, goes_on):
            found.append(line)
            seen.set()
        return found

    seen = asyncio.Event()
    writer = logs.writer(BUILD)
    writer.write(b"first\n")
    following = asyncio.create_task(follow())
    async with asyncio.timeout(30):
        await seen.wait()  # though the writer is not closed
    writer.write(b"last\n")
    await writer.close()
    ended.set()
    assert await following == [b"first", b"last"]


async def test_another_server_adds_the_end(logs: BuildLogs) -> None:
    """Who wrote it was killed."""
    first = logs.writer(BUILD)
    first.write(b"begun\n")
    await first.close()
    second = logs.writer(BUILD)
    second.write(b"interrupted\n")
    await second.close()
    second.write(b"late\n")
    await second.close()
    assert await _read(logs) == [b"begun", b"interrupted", b"late"]


async def test_rows_are_written_when_the_database_is_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.build.logs._AGAIN", 0.01)
    logs = TableLogs(database)
    away = 3
    whole = database.session

    def session() -> object:
        nonlocal away
        if away:
            away -= 1
            raise Unavailable("away")
        return whole()

    monkeypatch.setattr(database, "session", session)
    writer = logs.writer(BUILD)
    writer.write(b"kept\n")
    await writer.close()
    assert await _read(logs) == [b"kept"]
