"""Which engine runs a project's apps, and what its nodes pull with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.access import Access, Permission, Role
from slipway.app.engines import PULL_LIFETIME, Engines, RobotPulls
from slipway.base.clock import now
from slipway.delivery import Stepwise
from slipway.engines.kubernetes import KubernetesEngine, Setting
from slipway.fleet import Binding
from slipway.kubernetes import ClusterClient, Endpoint
from slipway.state import Database
from slipway.testing.memory_engine import MemoryEngine


@dataclass
class FixedClusters:
    bound: dict[str, list[Binding]]
    clients: dict[str, ClusterClient] = field(default_factory=dict)

    async def of(self, project: str) -> list[Binding]:
        return self.bound.get(project, [])

    async def client(self, name: str) -> ClusterClient:
        if name not in self.clients:
            self.clients[name] = ClusterClient(Endpoint("http://127.0.0.1:9"))
        return self.clients[name]


@pytest.fixture
async def access(tmp_path: Path) -> AsyncIterator[Access]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access = Access(database, tmp_path / "keys")
    await access.create_project("demo")
    yield access
    await database.dispose()


async def test_a_project_runs_where_it_is_bound(access: Access) -> None:
    embedded = Stepwise(MemoryEngine())
    clusters = FixedClusters(
        {
            "near": [Binding("one", "near", 1)],
            "far": [Binding("one", "far", 1), Binding("two", "far", 0)],
            "idle": [Binding("one", "idle", 0)],
            "both": [Binding("one", "both", 1), Binding("two", "both", 2)],
        }
    )
    engines = Engines(embedded, access, Setting(), clusters)
    assert await engines.of("demo") is embedded
    assert await engines.of("idle") is embedded
    near = await engines.of("near")
    assert isinstance(near, KubernetesEngine)
    assert await engines.of("far") is near
    assert await engines.of("both") is not near, "the heavier one"
    old = clusters.clients.pop("one")
    assert await engines.of("near") is not near, "the cluster was added anew"
    await engines.aclose()
    for client in (old, *clusters.clients.values()):
        await client.aclose()


async def test_nodes_pull_with_robots_that_come_and_go(access: Access) -> None:
    pulls = RobotPulls(access)
    await access.create_robot("demo", "pull-old", Role.GUEST, timedelta(seconds=-1))
    await access.create_robot("demo", "mine", Role.DEVELOPER, timedelta(seconds=-1))
    first, second = await pulls.issue("demo"), await pulls.issue("demo")
    assert first.user != second.user
    names = [robot.name for robot in await access.robots("demo")]
    assert "pull-old" not in names
    assert len(names) == 3, "robots that people made are left alone, and each login is good for itself"
    identity = await access.authenticate(first.user, first.secret)
    assert Permission.PULL in await access.permissions(identity, "demo")
    assert Permission.PUSH not in await access.permissions(identity, "demo")
    assert abs(first.expires - now() - PULL_LIFETIME) < timedelta(minutes=1)
