"""Which of several servers leads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.app.leadership import Leadership, Lost
from slipway.errors import Conflict, Unavailable
from slipway.state import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database.sqlite(tmp_path / "state.db")
    await found.migrate()
    yield found
    await found.dispose()


def server(database: Database, name: str, seconds: float = 15.0) -> Leadership:
    return Leadership(database, name, f"http://{name}", seconds)


async def test_one_leads_and_the_others_know_where(database: Database) -> None:
    one, two = server(database, "one"), server(database, "two")
    assert await two.leader() == ""
    two.forget()
    assert await one.won(asyncio.Event())
    async with one.kept() as lost:
        assert await one.leader() == ""  # not before it says that it is ready
        one.leads = True
        assert await one.leader() == "http://one"
        assert await two.leader() == "http://one"
        assert not await two.try_once()
        with pytest.raises(Conflict, match="another server leads this platform: http://one"):
            await two.won(asyncio.Event(), patience=0)
        assert not lost.done()
    two.forget()
    assert await two.leader() == ""
    assert await two.try_once()  # it was given back


async def test_one_that_restarts_under_its_name_goes_on(database: Database) -> None:
    assert await server(database, "one").try_once()
    assert await server(database, "one").try_once()


async def test_one_that_is_gone_is_followed(database: Database) -> None:
    assert await server(database, "one", 0.2).try_once()
    async with asyncio.timeout(30):
        assert await server(database, "two").won(asyncio.Event())


async def test_who_waits_can_be_told_to_end(database: Database) -> None:
    assert await server(database, "one", 300).try_once()
    ending = asyncio.Event()
    waiting = asyncio.create_task(server(database, "two").won(ending))
    await asyncio.sleep(0)
    ending.set()
    assert await waiting is False


async def test_a_leader_that_was_followed_is_told(database: Database) -> None:
    one = server(database, "one", 0.3)
    assert await one.won(asyncio.Event())
    async with one.kept() as lost:
        async with asyncio.timeout(30):
            while not await server(database, "two", 300).try_once():
                one.me = "asleep"  # it renews nothing of its own
                await asyncio.sleep(0.01)
            with pytest.raises(Lost, match="another server leads now"):
                await asyncio.shield(lost)


@pytest.mark.parametrize("in_doubt", [False, True])
async def test_a_leader_without_its_database_stops_unless_it_may_go_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, in_doubt: bool
) -> None:
    one = server(database, "one", 0.3)
    assert await one.won(asyncio.Event())
    asked = 0
    twice = asyncio.Event()

    async def away(self: Leadership) -> bool:
        nonlocal asked
        asked += 1
        if asked > 20:
            twice.set()
        raise Unavailable("away")

    async with one.kept(when_in_doubt=in_doubt) as lost:
        monkeypatch.setattr(Leadership, "try_once", away)
        async with asyncio.timeout(30):
            if in_doubt:
                await twice.wait()
                assert not lost.done()
            else:
                with pytest.raises(Lost, match="could not be renewed"):
                    await asyncio.shield(lost)
