"""What the mirror knows after its watches ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes import mirror as mirror_module
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.mirror import Mirror
from slipway.engines.kubernetes.objects import KINDS, Object
from slipway.kubernetes import ClusterClient, read_kubeconfig
from slipway.kubernetes import watching as watching_module
from slipway.kubernetes.transport import Transport
from slipway.testing.api_server import KINDS as SERVED
from slipway.testing.api_server import ApiServer, api_server, listing, status

APP = AppRef("demo", "shop")
DENIED = status(403, "Forbidden", "not allowed")


class Cluster:
    """Deployments that can be watched, or, as long as they are ``denied``, cannot."""

    def __init__(self, server: ApiServer) -> None:
        self.deployments: list[Object] = []
        self.denied = asyncio.Event()
        for version, kinds in SERVED.items():
            base = f"/apis/{version}" if "/" in version else f"/api/{version}"
            for kind, (plural, _) in kinds.items():
                if kind in KINDS:
                    server.answers[f"GET {base}/{plural}"] = [self._answer(kind)]

    def _answer(self, kind: str) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            if kind == "Deployment" and self.denied.is_set():
                return web.json_response(DENIED[1], status=403)
            if "watch" not in request.query:
                items = self.deployments if kind == "Deployment" else []
                return web.json_response(listing(1, *items)[1])
            response = web.StreamResponse()
            await response.prepare(request)
            await (self.denied.wait() if kind == "Deployment" else asyncio.sleep(3600))
            return response

        return answer


def deployment(name: str, namespace: str = "slipway-demo") -> Object:
    labels = names.object_labels(APP, "1")
    return {
        "metadata": {
            "name": name, "namespace": namespace, "labels": labels, "uid": name, "resourceVersion": "1",
            "managedFields": [{"manager": "slipway"}],
        }
    }  # fmt: skip


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with api_server() as found:
        yield found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "_PAUSE", 0.05)
    monkeypatch.setattr(watching_module, "_REFUSALS", 1)


async def test_what_went_while_nothing_could_be_watched_is_dropped(
    server: ApiServer, impatient: None
) -> None:
    cluster = Cluster(server)
    cluster.deployments = [deployment("web"), deployment("db"), deployment("theirs", "elsewhere")]
    endpoint = read_kubeconfig(server.kubeconfig())
    async with ClusterClient(endpoint, Transport(endpoint, (0.01,))) as client:
        mirror = Mirror(client, "slipway-")
        await mirror.ready()
        assert {key.name for key in mirror.observed(APP).objects} == {"web", "db"}
        assert mirror.namespaces() == {"slipway-demo"}
        mirror.changed.clear()
        cluster.denied.set()
        await until(lambda: sum(r.path.endswith("/deployments") for r in server.asked) > 6)
        assert len(mirror.observed(APP).objects) == 2, "a moment behind, as long as nobody can say"
        cluster.deployments = [deployment("db")]
        cluster.denied.clear()
        await until(lambda: len(mirror.observed(APP).objects) == 1)
        assert {key.name for key in mirror.observed(APP).objects} == {"db"}
        assert mirror.changed == {APP}
        await mirror.aclose()


async def test_nothing_is_asked_for_ever_of_a_client_that_was_closed(
    server: ApiServer, impatient: None
) -> None:
    cluster = Cluster(server)
    endpoint = read_kubeconfig(server.kubeconfig())
    client = ClusterClient(endpoint, Transport(endpoint, (0.01,)))
    mirror = Mirror(client, "slipway-")
    await mirror.ready()
    cluster.denied.set()
    await until(lambda: sum(r.path.endswith("/deployments") for r in server.asked) > 6)
    await client.aclose()
    await until(mirror._tasks[KINDS.index("Deployment")].done)
    await mirror.aclose()
