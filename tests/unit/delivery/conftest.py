"""The bench of ``delivery_bench`` as a fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from delivery_bench import Bench

from slipway.access import Access
from slipway.state import Database


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    await Access(database, tmp_path / "keys").create_project("demo")
    yield Bench(database)
    await database.dispose()
