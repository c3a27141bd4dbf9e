"""Which engine runs a project's apps, and what its nodes pull with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.access import Access, Permission, Role
from slipway.app.engines import PULL_LIFETIME, ClusterEngines, RobotPulls, open_engines
from slipway.base.clock import now
from slipway.delivery import AppRef, Apps, Placement, Placements, Stepwise
from slipway.engines.kubernetes import KubernetesEngine, Setting
from slipway.engines.spread import Spread
from slipway.fleet import Binding, ClusterRecord, Health
from slipway.kubernetes import ClusterClient, Endpoint
from slipway.state import Database
from slipway.testing.memory_engine import MemoryEngine


@dataclass
class FixedClusters:
    bindings: dict[str, dict[str, int]]
    clients: dict[str, ClusterClient] = field(default_factory=dict)
    on_closing: list[Callable[[str], Awaitable[None]]] = field(default_factory=list)

    async def of(self, project: str) -> list[Binding]:
        return [Binding(name, project, weight) for name, weight in self.bindings.get(project, {}).items()]

    async def bound(self) -> dict[str, dict[str, int]]:
        return self.bindings

    async def get(self, name: str) -> ClusterRecord:
        return ClusterRecord(name, "http://127.0.0.1:9", "v1.20.2", now(), prefix=f"{name}-")

    async def client(self, name: str) -> ClusterClient:
        if name not in self.clients:
            self.clients[name] = ClusterClient(Endpoint("http://127.0.0.1:9"))
        return self.clients[name]


@dataclass
class Site:
    database: Database
    access: Access


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access = Access(database, tmp_path / "keys")
    for name in ("demo", "near", "idle"):
        await access.create_project(name)
    yield Site(database, access)
    await database.dispose()


async def test_a_project_runs_where_it_is_bound(site: Site) -> None:
    embedded = Stepwise(MemoryEngine())
    clusters = FixedClusters({"near": {"one": 1, "two": 2}, "idle": {"one": 0}})
    engines = open_engines(
        embedded, site.access, Setting(), clusters, site.database, lambda name: Health(True), 60
    )
    assert await engines.of("demo") is embedded
    assert await engines.of("idle") is embedded
    spread = await engines.of("near")
    assert isinstance(spread, Spread)
    apps = Apps(site.database)
    await apps.ensure(AppRef("idle", "shop"))
    assert await engines.of("idle") is embedded
    await Placements(site.database).put(
        AppRef("idle", "shop"), Placement("one", {"one": 1}, frozenset({"one"}))
    )
    assert await engines.of("idle") is spread, "what is on a cluster is looked after there"
    await engines.aclose()


async def test_each_cluster_has_one_engine_as_long_as_it_is_the_same(site: Site) -> None:
    clusters = FixedClusters({"near": {"one": 1}})
    members = ClusterEngines(clusters, lambda name: Health(True), RobotPulls(site.access), Setting())
    one = await members.engine("one")
    assert await members.engine("one") is one
    assert await members.engine("two") is not one
    assert isinstance(one, KubernetesEngine)
    assert one._setting.prefix == "one-"
    assert await members.weights("near") == {"one": 1}
    old = clusters.clients.pop("one")
    assert await members.engine("one") is not one, "the cluster was added anew"
    await members.aclose()
    for client in (old, *clusters.clients.values()):
        await client.aclose()


async def test_the_engine_of_a_cluster_that_is_gone_watches_nothing(site: Site) -> None:
    clusters = FixedClusters({"near": {"one": 1}})
    members = ClusterEngines(clusters, lambda name: Health(True), RobotPulls(site.access), Setting())
    first, same = await asyncio.gather(members.engine("one"), members.engine("one"))
    assert first is same, "two that ask at once get the same"
    assert isinstance(first, KubernetesEngine)
    watching = asyncio.create_task(first._mirror.ready())
    await asyncio.sleep(0)
    tasks = list(first._mirror._tasks)
    assert tasks
    for tell in clusters.on_closing:
        await tell("one")
        await tell("unknown")
    assert all(task.done() for task in tasks)
    watching.cancel()
    assert await members.engine("one") is not first
    await members.aclose()
    for client in clusters.clients.values():
        await client.aclose()


async def test_nodes_pull_with_robots_that_come_and_go(site: Site) -> None:
    access = site.access
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
