"""Clusters over SQLite and over a real PostgreSQL that two servers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.access import Access, Vault
from slipway.errors import Conflict, NotFound
from slipway.fleet import Binding, ClusterDetail, Clusters
from slipway.state import Database
from slipway.testing.api_server import ApiServer, api_server, listing


@pytest.fixture(params=["sqlite", "postgresql"])
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Clusters, Clusters]]:
    """Two servers of one platform."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("database_server").database()
    databases = Database(url), Database(url)
    await databases[0].migrate()
    access = Access(databases[0], tmp_path / "keys")
    for project in ("shop", "bank"):
        await access.create_project(project)
    made = [Clusters(database, Vault(tmp_path / "keys")) for database in databases]
    yield made[0], made[1]
    for clusters, database in zip(made, databases, strict=True):
        await clusters.aclose()
        await database.dispose()


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with api_server() as found:
        found.answers["GET /api/v1/nodes"] = [listing(1)]
        yield found


async def test_two_servers_add_use_and_remove_the_same_cluster(
    both: tuple[Clusters, Clusters], api: ApiServer
) -> None:
    one, two = both
    added = await asyncio.gather(
        *(clusters.add("east", api.kubeconfig(token="t")) for clusters in (one, two) * 3),
        return_exceptions=True,
    )
    assert [type(found) for found in added].count(ClusterDetail) == 1
    assert [type(found) for found in added].count(Conflict) == 5
    await asyncio.gather(
        *(clusters.bind("east", "shop", weight) for clusters in (one, two) for weight in (1, 2, 2))
    )
    await two.bind("east", "shop", 7)
    await two.bind("east", "bank")
    assert await one.of("shop") == [Binding("east", "shop", 7)]
    assert (await one.get("east")).bindings == (Binding("east", "bank", 1), Binding("east", "shop", 7))
    with pytest.raises(Conflict, match=r"bank \(0 apps\), shop \(0 apps\)"):
        await one.remove("east")
    await one.unbind("east", "bank")
    client = await one.client("east")
    assert await client.version() == "v1.20.2"
    await two.remove("east", force=True)
    with pytest.raises(NotFound):
        await one.client("east")
    assert await one.of("shop") == []
