"""Clusters in the database: what is kept of them, who uses them, and the clients that stay open."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import delete, select

from slipway.access import Access, Vault
from slipway.base.clock import now
from slipway.client.kubeconfig import portable
from slipway.errors import Conflict, Interrupted, Invalid, NotFound, Unauthenticated, Unsupported
from slipway.fleet import Binding, Clusters, NodeFacts, Resources
from slipway.kubernetes import read_kubeconfig
from slipway.kubernetes.quantities import quantity
from slipway.state import Database
from slipway.state.tables import App, Project
from slipway.testing.api_server import ApiServer, api_server, kubeconfig, listing, status


def node(name: str, **conditions: str) -> dict[str, Any]:
    said = [{"type": kind, "status": value} for kind, value in conditions.items()]
    return {
        "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": True} if name == "cordoned" else {},
        "status": {
            "conditions": said,
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "100G"},
            "allocatable": {
                "cpu": "3920m",
                "memory": "7Gi",
                "pods": "110",
                "ephemeral-storage": "90000000000",
            },
            "nodeInfo": {"kubeletVersion": "v1.20.2", "operatingSystem": "linux", "architecture": "amd64"},
        },
    }


@dataclass(slots=True)
class Fleet:
    clusters: Clusters
    database: Database
    server: ApiServer
    directory: Path


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access = Access(database, tmp_path / "keys")
    for project in ("shop", "bank"):
        await access.create_project(project)
    async with api_server() as server:
        server.answers["GET /api/v1/nodes"] = [listing(1, node("n1", Ready="True"), node("n2", Ready="True"))]
        server.kinds["authorization.k8s.io/v1"] = {
            "SelfSubjectAccessReview": ("selfsubjectaccessreviews", False)
        }
        reviews = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        server.answers[reviews] = [(201, {"status": {"allowed": True}})]
        clusters = Clusters(database, Vault(tmp_path / "keys"))
        yield Fleet(clusters, database, server, tmp_path)
        await clusters.aclose()
    await database.dispose()


async def test_a_cluster_is_looked_at_before_it_is_kept(fleet: Fleet) -> None:
    found = await fleet.clusters.add("east", fleet.server.kubeconfig(token="s3cret"))
    assert (found.state, found.record.version, found.warnings) == ("ready", "v1.20.2", ())
    assert [item.name for item in found.nodes] == ["n1", "n2"]
    assert found.usable == Resources(7.84, 14 * 1024**3, 180_000_000_000, 220)
    with pytest.raises(Conflict):
        await fleet.clusters.add("east", fleet.server.kubeconfig(token="s3cret"))
    fleet.server.answers["GET /api/v1/nodes"] = [status(401, "Unauthorized", "Unauthorized")]
    with pytest.raises(Unauthenticated):
        await fleet.clusters.add("west", fleet.server.kubeconfig(token="old"))
    assert [item.name for item in await fleet.clusters.all()] == ["east"]


async def test_a_copy_of_the_database_opens_no_cluster(fleet: Fleet) -> None:
    document = yaml.safe_load(fleet.server.kubeconfig(token="s3cret"))
    document["users"].append({"name": "another", "user": {"token": "an0ther"}})
    await fleet.clusters.add("east", yaml.safe_dump(document))
    with sqlite3.connect(fleet.directory / "state.db") as connection:
        (sealed,) = connection.execute("SELECT kubeconfig FROM clusters").fetchone()
    kept = Vault(fleet.directory / "keys").open(sealed)
    assert "s3cret" not in sealed
    assert "s3cret" in kept
    assert "an0ther" not in kept, "other contexts are not kept"


async def test_a_kubeconfig_that_would_run_something_is_not_kept(fleet: Fleet) -> None:
    with pytest.raises(Unsupported):
        await fleet.clusters.add("east", fleet.server.kubeconfig(exec={"command": "id"}))
    assert not fleet.server.asked


async def test_what_the_account_may_not_is_said(fleet: Fleet) -> None:
    reviews = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    fleet.server.answers[reviews] = [(201, {"status": {"allowed": False}})]
    found = await fleet.clusters.add("east", fleet.server.kubeconfig(token="t"))
    assert "create namespaces" in found.warnings[0]


@pytest.mark.parametrize("name", ["", "East", "a_b", "-a", "a" * 41, "a/b", "é"])
async def test_names_are_checked(fleet: Fleet, name: str) -> None:
    with pytest.raises(Invalid):
        await fleet.clusters.add(name, fleet.server.kubeconfig())


def app(project: int, name: str, **placement: int) -> App:
    return App(project_id=project, name=name, state="active", scale={}, created=now(), placement=placement)


async def test_apps_of_this_machine_are_not_left_behind(fleet: Fleet) -> None:
    await fleet.clusters.add("east", fleet.server.kubeconfig(token="t"))
    async with fleet.database.session() as session:
        shop = await session.scalar(select(Project.id).where(Project.name == "shop"))
        assert shop is not None
        session.add_all([app(shop, "here"), app(shop, "there", east=1)])
    with pytest.raises(Conflict, match="run on this machine, and do not move: here "):
        await fleet.clusters.bind("east", "shop")
    await fleet.clusters.bind("east", "shop", 0)  # which puts nothing there
    with pytest.raises(Conflict):
        await fleet.clusters.bind("east", "shop", 1)
    async with fleet.database.session() as session:
        await session.execute(delete(App).where(App.name == "here"))
    await fleet.clusters.bind("east", "shop", 1)
    async with fleet.database.session() as session:
        session.add(app(shop, "begun"))  # and not placed yet
    await fleet.clusters.bind("east", "shop", 2)


async def test_projects_use_clusters_with_weights(fleet: Fleet) -> None:
    for name in ("east", "west"):
        await fleet.clusters.add(name, fleet.server.kubeconfig(token="t"))
        await fleet.clusters.bind(name, "shop")
    await fleet.clusters.bind("east", "shop", 3)
    assert await fleet.clusters.of("shop") == [Binding("east", "shop", 3), Binding("west", "shop", 1)]
    assert await fleet.clusters.of("bank") == []
    with pytest.raises(NotFound):
        await fleet.clusters.bind("east", "nobody")
    with pytest.raises(NotFound):
        await fleet.clusters.bind("north", "shop")
    with pytest.raises(Invalid):
        await fleet.clusters.bind("east", "shop", -1)
    with pytest.raises(Conflict, match="shop \\(0 apps\\)"):
        await fleet.clusters.remove("east")
    await fleet.clusters.unbind("east", "shop")
    with pytest.raises(NotFound):
        await fleet.clusters.unbind("east", "shop")
    await fleet.clusters.remove("east")
    await fleet.clusters.remove("west", force=True)
    assert await fleet.clusters.of("shop") == []
    with pytest.raises(NotFound):
        await fleet.clusters.remove("west")


async def test_a_client_is_shared_and_ends_with_its_cluster(fleet: Fleet) -> None:
    await fleet.clusters.add("east", fleet.server.kubeconfig(token="t"))
    client = await fleet.clusters.client("east")
    assert await fleet.clusters.client("east") is client
    other = Clusters(fleet.database, Vault(fleet.directory / "keys"))  # another server of the same platform
    await other.remove("east")
    with pytest.raises(NotFound):
        await fleet.clusters.client("east")
    with pytest.raises(Interrupted):
        await client.version()
    await other.add("east", fleet.server.kubeconfig(token="another"))
    assert (await fleet.clusters.client("east")).endpoint.token == "another"


async def test_who_uses_a_client_is_told_before_it_is_closed(fleet: Fleet) -> None:
    other = Clusters(fleet.database, Vault(fleet.directory / "keys"))
    for name in ("east", "west"):
        await fleet.clusters.add(name, fleet.server.kubeconfig(token=name), prefix=f"{name}-")
        await fleet.clusters.client(name)
    told: list[str] = []

    async def tell(name: str) -> None:
        assert await clients[name].version(), "it is open still"
        told.append(name)

    clients = {name: await fleet.clusters.client(name) for name in ("east", "west")}
    fleet.clusters.on_closing.append(tell)
    await fleet.clusters.remove("east")
    assert told == ["east"]
    await other.remove("west")
    assert await fleet.clusters.names() == set()
    assert told == ["east", "west"], "whoever removed it"
    with pytest.raises(Interrupted):
        await clients["west"].version()


async def test_a_cluster_that_is_away_is_shown_so(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await fleet.clusters.add("east", fleet.server.kubeconfig(token="t"))
    fleet.server.answers["GET /version"] = [status(503, "ServiceUnavailable", "etcd is away")]
    monkeypatch.setattr("slipway.kubernetes.transport._PATIENCE", ())
    (found,) = await fleet.clusters.list()
    assert (found.state, found.record.version) == ("away", "v1.20.2")
    assert "etcd is away" in found.error
    fleet.server.answers["GET /version"] = [(200, {"gitVersion": "v1.21.0"})]
    assert (await fleet.clusters.show("east")).record.version == "v1.21.0"
    assert (await fleet.clusters.get("east")).version == "v1.21.0"


def test_a_node_says_what_troubles_it() -> None:
    found = NodeFacts.of(node("cordoned", Ready="True", DiskPressure="True", MemoryPressure="False"))
    assert (found.ready, found.usable, found.cordoned, found.pressure) == (True, False, True, ("disk",))
    assert found.roles == ("control-plane",)
    gone = NodeFacts.of({"metadata": {"name": "x"}, "status": {"capacity": {"cpu": "many"}}})
    assert (gone.ready, gone.capacity, gone.reason) == (False, Resources(), "it has not reported yet")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"), ("2", "2"), ("16393208Ki", 16393208 * 1024), ("1.5Gi", 1.5 * 1024**3), ("1e3", "1000"),
        ("12E", 12 * 10**18), ("100n", "0.0000001"), (".5", "0.5"), (3, 3), ("-1k", -1000),
    ],
)  # fmt: skip
def test_amounts(text: str | int, value: Any) -> None:
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "many", "1KB", "1 Gi", "0x1", "1e999", "²"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(Invalid):
        quantity(text)


def test_a_kubeconfig_is_made_complete_before_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("authority")
    (tmp_path / "token").write_text("t0ken\n")
    document = yaml.safe_load(
        kubeconfig(
            {"server": "https://a", "certificate-authority": "ca.pem"}, {"tokenFile": f"{tmp_path}/token"}
        )
    )
    document["contexts"].append({"name": "other", "context": {"cluster": "d", "user": "v"}})
    document["clusters"].append({"name": "d", "cluster": {"server": "https://d"}})
    document["users"].append({"name": "v", "user": {"token": "other's"}})
    text = yaml.safe_dump(document)
    sent = portable(text, "", tmp_path)
    found = read_kubeconfig(sent)
    assert (found.server, found.authority, found.token) == ("https://a", "authority", "t0ken")
    assert "other" not in sent
    assert read_kubeconfig(portable(text, "other", tmp_path)).token == "other's"
    assert read_kubeconfig(found.kubeconfig()) == found
    with pytest.raises(NotFound):
        portable(text, "nowhere", tmp_path)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(Invalid, match=r"ca\.pem"):
        portable(text, "", tmp_path)
