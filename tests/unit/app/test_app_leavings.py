"""What a project that is removed leaves on clusters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.access import Access, Vault
from slipway.app.leavings import LeavingsHere, LeavingsOnClusters
from slipway.base.progress import silent
from slipway.build.cache_mounts import CacheMounts
from slipway.build.dockerfile import CacheMount
from slipway.build.logs import FileLogs
from slipway.build.pods.manifests import BUILDS, MANAGED, PROJECT, ROLE, SERVER, namespace_of
from slipway.build.records import BuildRecords
from slipway.delivery import Apps
from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.pulls import PULL, SECRET
from slipway.errors import Conflict, NotFound, Unavailable
from slipway.fleet import Clusters
from slipway.state import Database
from slipway.testing.api_server import ApiServer, api_server, listing, status

HOME = namespace_of("shop")
HOME_PATH = f"/api/v1/namespaces/{HOME}"
SECRET_PATH = f"/api/v1/namespaces/slipway-shop/secrets/{SECRET}"


@dataclass
class Site:
    access: Access
    clusters: Clusters
    server: ApiServer

    def removed(self) -> list[str]:
        return [item.path for item in self.server.asked if item.method == "DELETE"]


def item(name: str, namespace: str = "", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels}}


def marked(mark: str) -> dict[str, str]:
    return {SERVER: mark}


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr("slipway.kubernetes.transport._PATIENCE", ())
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access = Access(database, tmp_path / "keys")
    await access.create_project("shop")
    clusters = Clusters(database, Vault(tmp_path / "keys"))
    access.on_deletion.append(LeavingsOnClusters(clusters, "me").remove)
    async with api_server() as server:
        builds = item(HOME, **{MANAGED: "slipway", ROLE: BUILDS, PROJECT: "shop"})
        copied = item("mine", **{MANAGED: "slipway", ROLE: BUILDS, PROJECT: "shop"})
        pull = {PULL: "true", PROJECT: "shop"}
        server.answers |= {
            "GET /api/v1/nodes": [listing(1)],
            "GET /api/v1/namespaces": [listing(1, builds, copied)],
            "GET /api/v1/persistentvolumeclaims": [listing(1)],
            "GET /api/v1/secrets": [
                listing(1, item(SECRET, "slipway-shop", **pull), item(SECRET, "elsewhere", **pull))
            ],
            f"GET {HOME_PATH}/pods": [listing(1)],
            f"GET {HOME_PATH}/secrets": [listing(1)],
            f"GET {HOME_PATH}/persistentvolumeclaims": [listing(1, item("kept", HOME, **marked("me")))],
            f"DELETE {HOME_PATH}": [(200, {})],
            f"DELETE {HOME_PATH}/persistentvolumeclaims/kept": [(200, {})],
            f"DELETE {SECRET_PATH}": [(200, {})],
        }
        await clusters.add("east", server.kubeconfig())
        await clusters.bind("east", "shop")
        yield Site(access, clusters, server)
        await clusters.aclose()
    await database.dispose()


async def test_what_its_builds_kept_and_what_its_nodes_pulled_with_go_with_it(site: Site) -> None:
    await site.access.delete_project("shop")
    assert site.removed() == [HOME_PATH, SECRET_PATH]
    with pytest.raises(NotFound):
        await site.access.project("shop")


async def test_what_another_server_builds_there_stays(site: Site) -> None:
    site.server.answers[f"GET {HOME_PATH}/pods"] = [listing(1, item("build", HOME, **marked("another")))]
    await site.access.delete_project("shop")
    assert site.removed() == [f"{HOME_PATH}/persistentvolumeclaims/kept", SECRET_PATH]


async def test_of_a_namespace_that_somebody_else_labelled_only_what_is_ours_goes(site: Site) -> None:
    labelled = item(HOME, **{ROLE: BUILDS, PROJECT: "shop"})
    site.server.answers["GET /api/v1/namespaces"] = [listing(1, labelled)]
    await site.access.delete_project("shop")
    asked = next(item.query for item in site.server.asked if item.path == "/api/v1/namespaces")
    assert asked["labelSelector"] == f"{PROJECT}=shop,{ROLE}={BUILDS}"
    assert site.removed() == [f"{HOME_PATH}/persistentvolumeclaims/kept", SECRET_PATH]


async def test_a_project_whose_apps_left_volumes_stays(site: Site) -> None:
    labels = names.object_labels(AppRef("shop", "web"), "0")
    site.server.answers["GET /api/v1/persistentvolumeclaims"] = [
        listing(1, item("theirs", "elsewhere", **labels), item("web-data", "slipway-shop", **labels))
    ]
    with pytest.raises(Conflict, match=r"on the cluster east volumes .* are left: web-data") as caught:
        await site.access.delete_project("shop")
    assert "kubectl delete pvc -n slipway-shop -l slipway/project=shop" in caught.value.hint
    assert site.removed() == []
    await site.access.project("shop")


async def test_a_cluster_of_the_project_that_is_away_is_named(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.server.answers["GET /api/v1/persistentvolumeclaims"] = [status(503, "ServiceUnavailable", "no etcd")]
    with pytest.raises(Unavailable, match=r"on the cluster east could not be removed: .*no etcd") as caught:
        await site.access.delete_project("shop")
    assert "slipway cluster unbind east --project shop" in caught.value.hint
    await site.access.project("shop")
    await site.clusters.unbind("east", "shop")
    site.server.answers["GET /api/v1/namespaces"] = [status(503, "ServiceUnavailable", "no etcd")]
    await site.access.delete_project("shop")
    assert "what shop has left on the cluster east could not be removed" in caplog.text


async def test_a_cluster_of_all_projects_that_is_away_is_named(site: Site) -> None:
    await site.clusters.unbind("east", "shop")
    site.clusters._fallback = "east"
    site.server.answers["GET /api/v1/persistentvolumeclaims"] = [status(503, "ServiceUnavailable", "no etcd")]
    with pytest.raises(Unavailable, match="on the cluster east") as caught:
        await site.access.delete_project("shop")
    assert caught.value.hint.endswith("slipway cluster rm east")


async def test_a_machine_keeps_nothing_for_the_next_project_of_a_name(tmp_path: Path) -> None:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access, caches = Access(database, tmp_path / "keys"), CacheMounts(tmp_path / "caches")
    volumes = tmp_path / "volumes"
    access.on_deletion.append(LeavingsHere(volumes, caches).remove)
    for project in ("shop", "shop-two"):
        await access.create_project(project)
        async with caches.use(project, CacheMount("/cache", id="pip")) as path:
            (path / "kept").touch()
    (volumes / "shop_app_data").mkdir(parents=True)
    (volumes / "shop-two_app_data").mkdir()

    with pytest.raises(Conflict, match="removed are left: shop_app_data ") as caught:
        await access.delete_project("shop")
    assert f"rm -r {volumes}/shop_*" in caught.value.hint
    (volumes / "shop_app_data").rmdir()
    (volumes / ".shop_app_data.whole" / "theirs").mkdir(parents=True)
    async with caches.use("shop", CacheMount("/cache", id="pip")):
        with pytest.raises(Conflict, match="a build of shop is using"):
            await access.delete_project("shop")
    await access.delete_project("shop")
    assert [item.scope for item in caches.usage()] == ["shop-two"]
    assert [path.name for path in volumes.iterdir()] == ["shop-two_app_data"]
    await database.dispose()


async def test_a_project_in_which_something_goes_on_stays(tmp_path: Path) -> None:
    """What it leaves after the removal would be the next project's of this name."""
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access, records = Access(database, tmp_path / "keys"), BuildRecords(database, FileLogs(tmp_path / "logs"))
    apps, begun = Apps(database), list[str]()

    async def build(project: str) -> None:
        begun.append(f"build{len(begun)}")
        about = {"app": "", "service": "web", "owner": "ada", "source": ""}
        await records.add(begun[-1], project, lambda policy: {}, **about)

    async def deliver(project: str) -> None:
        await apps.ensure(AppRef(project, "late"))

    await access.create_project("shop")
    await build("shop")
    access.on_deletion.append(build)
    for build_id in ("build0", "build1"):  # before the removal and during it
        with pytest.raises(Conflict, match=f"the build {build_id} of the project 'shop' has not ended"):
            await access.delete_project("shop")
        await records.end(build_id, records.log(build_id, silent), {"state": "cancelled"})
    access.on_deletion[:] = [deliver]
    with pytest.raises(Conflict, match="has apps"):
        await access.delete_project("shop")
    await apps.remove(AppRef("shop", "late"))
    access.on_deletion.clear()
    await access.delete_project("shop")
    await database.dispose()
