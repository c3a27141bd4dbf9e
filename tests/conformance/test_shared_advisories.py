"""Advisories that one server loads are all servers', over a real PostgreSQL."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.content import LocalStore
from slipway.registry.findings import SharedAdvisories
from slipway.registry.roots import Roots
from slipway.state import Database
from slipway.testing.postgres import Postgres, postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    if os.geteuid() != 0:
        pytest.skip("PostgreSQL is started by root as its own user")
    with postgres() as found:
        yield found


@pytest.fixture
async def databases(server: Postgres) -> AsyncIterator[tuple[Database, Database]]:
    url = server.database()
    one, two = Database(url), Database(url)
    await one.migrate()
    yield one, two
    await one.dispose()
    await two.dispose()


def dump(directory: Path, name: str) -> Path:
    affected = {"package": {"ecosystem": "PyPI", "name": "a"}, "versions": ["1"]}
    path = directory / f"{name}.json"
    path.write_text(json.dumps({"id": name, "modified": "2025-01-01T00:00:00Z", "affected": [affected]}))
    return path


async def test_what_one_loads_the_others_have(databases: tuple[Database, Database], tmp_path: Path) -> None:
    blobs = LocalStore(tmp_path / "content")
    one = SharedAdvisories(databases[0], blobs, tmp_path / "one" / "index.sqlite")
    two = SharedAdvisories(databases[1], blobs, tmp_path / "two" / "index.sqlite")
    await two.fetch()
    assert two.index.sources() == []
    await one.load(dump(tmp_path, "X-1"), "first")
    await two.fetch()
    assert [item.name for item in two.index.sources()] == ["first"]
    # Another leads now, and adds to what is there; it had not looked since.
    await one.load(dump(tmp_path, "X-2"), "second")
    await two.load(dump(tmp_path, "X-3"), "third")
    await one.fetch()
    assert {item.id for item in one.index.lookup("PyPI", "a")} == {"X-1", "X-2", "X-3"}

    kept = [digest async for page in Roots(databases[0]).pages() for digest in page]
    blobs.collect(lambda *_: kept, timedelta(0))
    fresh = SharedAdvisories(databases[1], blobs, tmp_path / "three" / "index.sqlite")
    await fresh.fetch()
    assert len(fresh.index.sources()) == 3
    await fresh.remove("first")
    await one.fetch()
    assert len(one.index.sources()) == 2
    for item in (one, two, fresh):
        item.index.close()


async def test_a_file_of_earlier_versions_is_given_to_the_others(
    databases: tuple[Database, Database], tmp_path: Path
) -> None:
    blobs = LocalStore(tmp_path / "content")
    one = SharedAdvisories(databases[0], blobs, tmp_path / "one.sqlite")
    one.index.load(dump(tmp_path, "X-1"), "first")
    await one.fetch()
    two = SharedAdvisories(databases[1], blobs, tmp_path / "two.sqlite")
    await two.fetch()
    assert [item.name for item in two.index.sources()] == ["first"]
    one.index.close()
    two.index.close()


async def test_a_server_alone_shares_with_nobody(tmp_path: Path) -> None:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    blobs = LocalStore(tmp_path / "content")
    alone = SharedAdvisories(database, blobs, tmp_path / "index.sqlite")
    await alone.load(dump(tmp_path, "X-1"), "first")
    await alone.run_forever()  # ends at once
    assert list(blobs.digests()) == []
    alone.index.close()
    await database.dispose()
