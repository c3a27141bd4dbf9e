"""What the build cache forgets first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from slipway.base.clock import now
from slipway.build.cache import BuildCache
from slipway.build.made import Made
from slipway.content import LocalStore
from slipway.oci import Descriptor, Digest, MediaType
from slipway.snapshots import LayerRef
from slipway.state import Database
from slipway.state.tables import BuildCache as Row

DAY = timedelta(days=1)
LOTS = 1 << 40


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[BuildCache]:
    """``a`` to ``d`` used one to four days ago; ``b`` and ``c`` have one layer."""
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    found = BuildCache(database, LocalStore(tmp_path / "content"))
    for age, (key, layer) in enumerate((("a", "x"), ("b", "y"), ("c", "y"), ("d", "z")), 1):
        digest = Digest.of(layer.encode())
        made = Made(LayerRef(digest, Descriptor(MediaType.OCI_LAYER, digest, 100)), 100, now())
        await found.put(key, made, "")
        async with database.session() as session:
            used = now() - age * DAY + timedelta(hours=1)
            await session.execute(update(Row).where(Row.key == key).values(used=used))
    yield found
    await database.dispose()


@pytest.mark.parametrize(
    ("days", "size", "gone"),
    [
        (10, LOTS, {}),
        (3, LOTS, {"d": 100}),
        (2, LOTS, {"c": 0, "d": 100}),  # the layer of c stays for b
        (10, 250, {"d": 100}),
        (10, 150, {"b": 100, "c": 100, "d": 100}),
        (0, 0, {"a": 100, "b": 100, "c": 100, "d": 100}),
    ],
)
async def test_what_goes(cache: BuildCache, days: int, size: int, gone: dict[str, int]) -> None:
    assert await cache.beyond(days * DAY, size) == gone


async def test_forgetting(cache: BuildCache) -> None:
    await cache.forget(["a", "none", *(f"key{number}" for number in range(2000))])
    assert sorted(await cache.beyond(0 * DAY, 0)) == ["b", "c", "d"]
