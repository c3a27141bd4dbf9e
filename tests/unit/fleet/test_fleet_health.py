"""When a cluster counts as failed, and when it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from slipway.access import Access, Vault
from slipway.base.clock import now
from slipway.errors import Conflict, Invalid
from slipway.fleet import Clusters, ClusterWatch
from slipway.state import Database
from slipway.state.tables import Cluster
from slipway.testing.api_server import ApiServer, api_server, listing, status

GRACE = 60.0


def node(name: str, ready: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@dataclass(slots=True)
class Fleet:
    clusters: Clusters
    server: ApiServer

    def watch(self, began: timedelta = timedelta(0)) -> ClusterWatch:
        """Of a server that began so long ago."""
        found = ClusterWatch(self.clusters, GRACE)
        found._began = now() - began
        return found

    def nodes(self, **ready: str) -> None:
        found = {name: node(name, state) for name, state in ready.items()}
        self.server.answers["GET /api/v1/nodes"] = [listing(1, *found.values())]
        for name, item in found.items():
            self.server.answers[f"GET /api/v1/nodes/{name}"] = [(200, item)]

    def away(self) -> None:
        for path in [*self.server.answers]:
            self.server.answers[path] = [status(503, "ServiceUnavailable", "etcd is away")]


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr("slipway.kubernetes.transport._PATIENCE", ())
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    await Access(database, tmp_path / "keys").create_project("shop")
    async with api_server() as server:
        found = Fleet(Clusters(database, Vault(tmp_path / "keys")), server)
        found.nodes(n1="True", n2="True")
        await found.clusters.add("east", server.kubeconfig(token="t"))
        yield found
        await found.clusters.aclose()
    await database.dispose()


async def test_one_that_was_added_has_just_answered(fleet: Fleet) -> None:
    watch = fleet.watch()
    fleet.nodes(n1="True")
    await fleet.clusters.add("west", fleet.server.kubeconfig(token="t"), prefix="west-")
    assert watch.health("west").well
    fleet.nodes(n1="False")
    await fleet.clusters.add("north", fleet.server.kubeconfig(token="t"), prefix="north-")
    assert not watch.health("north").well


async def test_one_that_answers_is_asked_about_one_node(fleet: Fleet) -> None:
    watch = fleet.watch()
    assert not watch.health("east").well
    assert not watch.health("east").failed
    await watch.look()
    assert watch.health("east").well
    fleet.server.asked.clear()
    await watch.look()
    assert fleet.server.paths() == ["GET /api/v1/nodes/n1"]
    fleet.nodes(n1="False", n2="True")
    await watch.look()
    assert watch.health("east").well, "another is ready"
    fleet.server.asked.clear()
    await watch.look()
    assert fleet.server.paths() == ["GET /api/v1/nodes/n2"]


async def test_it_has_failed_when_it_was_away_for_the_grace(fleet: Fleet) -> None:
    watch = fleet.watch(began=timedelta(hours=1))
    await watch.look()
    fleet.away()
    await watch.look()
    health = watch.health("east")
    assert (health.well, health.failed) == (False, False)
    assert "etcd is away" in health.reason
    await seen(fleet, GRACE + 1)
    await watch.look()
    assert watch.health("east").failed
    fleet.nodes(n1="True")
    await watch.look()
    assert (watch.health("east").well, watch.health("east").failed) == (True, False)


async def test_nodes_that_are_all_away_are_a_failure_too(fleet: Fleet) -> None:
    watch = fleet.watch(began=timedelta(hours=1))
    fleet.nodes(n1="False", n2="Unknown")
    await seen(fleet, GRACE + 1)
    await watch.look()
    assert watch.health("east").failed
    assert watch.health("east").reason == "none of its 2 nodes is ready"


async def test_what_another_server_sees_has_not_failed(fleet: Fleet) -> None:
    """One that cannot reach a cluster does not fight with one that can."""
    watch = fleet.watch(began=timedelta(hours=1))
    fleet.away()
    await seen(fleet, 5)
    await watch.look()
    assert (watch.health("east").well, watch.health("east").failed) == (False, False)


async def test_one_that_was_not_looked_at_for_long_has_not_failed(fleet: Fleet) -> None:
    """The server was down, not the cluster."""
    watch = fleet.watch()
    fleet.away()
    await seen(fleet, 3600)
    await watch.look()
    assert (watch.health("east").well, watch.health("east").failed) == (False, False)


async def test_a_cluster_that_was_removed_is_forgotten(fleet: Fleet) -> None:
    watch = fleet.watch()
    await watch.look()
    await fleet.clusters.remove("east")
    await watch.look()
    assert not watch.health("east").well


async def test_one_cluster_under_two_names_has_two_prefixes(fleet: Fleet) -> None:
    system = {"metadata": {"name": "kube-system", "uid": "1234"}}
    fleet.server.answers["GET /api/v1/namespaces/kube-system"] = [(200, system)]
    await fleet.clusters.add("west", fleet.server.kubeconfig(token="t"))
    with pytest.raises(Conflict, match="this is the cluster 'west' again"):
        await fleet.clusters.add("north", fleet.server.kubeconfig(token="t"))
    found = await fleet.clusters.add("north", fleet.server.kubeconfig(token="t"), prefix="north-")
    assert (found.record.prefix, (await fleet.clusters.get("west")).prefix) == ("north-", "slipway-")
    for prefix in ("", "north", "-", "N-", "a_b-", "a" * 21 + "-"):
        with pytest.raises(Invalid, match="prefix"):
            await fleet.clusters.add("other", fleet.server.kubeconfig(token="t"), prefix=prefix)


async def seen(fleet: Fleet, seconds: float) -> None:
    """It was well so long ago."""
    async with fleet.clusters._database.session() as session:
        await session.execute(update(Cluster).values(seen=now() - timedelta(seconds=seconds)))
