"""Clusters over SQLite and over a real PostgreSQL that two servers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.access import Access, Vault
from slipway.errors import Conflict, NotFound, Unsupported
from slipway.fleet import Binding, ClusterDetail, Clusters
from slipway.kubernetes import read_kubeconfig
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


async def test_projects_without_a_cluster_have_that_of_the_server(
    both: tuple[Clusters, Clusters], api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await both[0].add("east", api.kubeconfig())
    own = Clusters(both[0]._database, both[0]._vault, "east")
    assert await own.of("shop") == [Binding("east", "shop", 1)]
    assert await both[0].of("shop") == []
    await own.bind("east", "shop", 0)
    assert [item.weight for item in await own.of("shop")] == [0]
    await own.aclose()


async def test_the_cluster_of_the_servers_pods_is_for_them_alone(
    both: tuple[Clusters, Clusters], api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = read_kubeconfig(api.kubeconfig())
    monkeypatch.setattr("slipway.fleet.clusters.own_endpoint", lambda: endpoint)
    await both[0].add("here", "")
    assert await (await both[1].client("here")).version()
    monkeypatch.undo()
    elsewhere = Clusters(both[1]._database, both[1]._vault)
    with pytest.raises(Unsupported, match="this server is none of them"):
        await elsewhere.client("here")
