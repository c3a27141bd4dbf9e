"""The client against an API server that fails in ways a real one does now and then."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from slipway.errors import Conflict, Exhausted, Invalid, NotFound, Unauthenticated, Unavailable, Unsupported
from slipway.kubernetes import ClusterClient, Resource, read_kubeconfig
from slipway.kubernetes import listing as listing_module
from slipway.kubernetes import transport as transport_module
from slipway.kubernetes.discovery import rank
from slipway.kubernetes.transport import Transport
from slipway.testing.api_server import ApiServer, api_server, config_map, kubeconfig, listing, status

MAPS = "/api/v1/namespaces/shop/configmaps"
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}}


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with api_server() as found:
        yield found


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[ClusterClient]:
    endpoint = read_kubeconfig(server.kubeconfig(token="secret"))
    async with ClusterClient(endpoint, Transport(endpoint, (0.01, 0.01))) as found:
        yield found


async def test_credentials_go_along_and_every_request_counts(
    server: ApiServer, client: ClusterClient
) -> None:
    server.answers[f"GET {MAPS}/a"] = [(200, config_map("a", 1))]
    found = await client.get("ConfigMap", "a", "shop")
    assert found is not None
    assert found["metadata"]["name"] == "a"
    assert {request.headers["Authorization"] for request in server.asked} == {"Bearer secret"}
    before = client.requests
    await client.get("ConfigMap", "a", "shop")
    assert client.requests == before + 1, "what was discovered is not asked again"
    assert client.requests == len(server.asked)


async def test_an_object_that_is_not_there_is_none_and_not_deleted(
    server: ApiServer, client: ClusterClient
) -> None:
    server.answers[f"GET {MAPS}/a"] = server.answers[f"DELETE {MAPS}/a"] = [status(404, "NotFound", "no a")]
    assert await client.get("ConfigMap", "a", "shop") is None
    assert await client.delete("ConfigMap", "a", "shop") is False


async def test_a_busy_server_is_asked_again_when_it_says(server: ApiServer, client: ClusterClient) -> None:
    server.answers[f"GET {MAPS}/a"] = [
        status(429, "TooManyRequests", "later", retryAfterSeconds=0.3),
        status(503, "ServiceUnavailable", "starting"),
        (200, config_map("a", 1)),
    ]
    began = time.monotonic()
    assert await client.get("ConfigMap", "a", "shop")
    assert time.monotonic() - began >= 0.3


async def test_patience_ends(server: ApiServer, client: ClusterClient) -> None:
    server.answers[f"GET {MAPS}/a"] = [status(500, "InternalError", "etcdserver: leader changed")]
    with pytest.raises(Unavailable, match="leader changed"):
        await client.get("ConfigMap", "a", "shop")
    assert server.paths().count(f"GET {MAPS}/a") == 3


async def test_what_must_not_happen_twice_is_sent_once(server: ApiServer, client: ClusterClient) -> None:
    server.answers[f"POST {MAPS}"] = [status(500, "InternalError", "perhaps it was done")]
    with pytest.raises(Unavailable):
        await client.create(MAP)
    assert server.paths().count(f"POST {MAPS}") == 1
    again = status(500, "ServerTimeout", "No API token found, retry", retryAfterSeconds=0.01)
    server.answers[f"POST {MAPS}"] = [
        status(429, "TooManyRequests", "not done"),
        again,
        (201, config_map("a", 1)),
    ]
    await client.create(MAP)
    assert server.paths().count(f"POST {MAPS}") == 4


async def test_a_server_that_is_away_is_said_so() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        text = kubeconfig({"server": f"http://127.0.0.1:{nobody.getsockname()[1]}"}, {})
        endpoint = read_kubeconfig(text)
        async with ClusterClient(endpoint, Transport(endpoint, (0.01,))) as client:
            with pytest.raises(Unavailable, match="does not answer"):
                await client.version()
            assert client.requests == 2


async def test_refused_credentials_are_not_tried_again(server: ApiServer) -> None:
    server.answers["GET /version"] = [status(401, "Unauthorized", "Unauthorized")]
    with pytest.raises(Unauthenticated):
        await ClusterClient.connect(server.kubeconfig(token="old"))
    assert server.paths() == ["GET /version"]


async def test_a_redirect_is_not_followed(server: ApiServer, client: ClusterClient) -> None:
    async def elsewhere(_request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://169.254.169.254/latest"})

    server.answers["GET /version"] = [elsewhere]
    with pytest.raises(Unavailable):
        await client.version()


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[1]", b'{"a":' * 100_000])
async def test_something_else_than_an_api_server(
    server: ApiServer, client: ClusterClient, body: bytes
) -> None:
    async def other(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    server.answers["GET /version"] = [other]
    with pytest.raises(Invalid, match=r"no JSON|no object"):
        await client.version()


async def test_an_answer_has_a_limit(
    server: ApiServer, client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "MOST_JSON", 1000)
    server.answers[f"GET {MAPS}/a"] = [(200, config_map("a", 1, big="x" * 1000))]
    with pytest.raises(Exhausted, match="1000 bytes"):
        await client.get("ConfigMap", "a", "shop")


# Lists


async def test_pages_become_one_list(server: ApiServer, client: ClusterClient) -> None:
    server.answers[f"GET {MAPS}"] = [
        listing(7, config_map("a", 1), more="t1"),
        listing(7, config_map("b", 2)),
    ]
    found = await client.list("ConfigMap", "shop", {"app": "web", "tier": "x"})
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b"]
    assert (found.version, found.items[0]["kind"], found.items[0]["apiVersion"]) == ("7", "ConfigMap", "v1")
    first, second = (request.query for request in server.asked if request.path == MAPS)
    assert (first["labelSelector"], first["limit"], second["continue"]) == ("app=web,tier=x", "500", "t1")


async def test_a_list_whose_version_expired_begins_again(server: ApiServer, client: ClusterClient) -> None:
    server.answers[f"GET {MAPS}"] = [
        listing(7, config_map("a", 1), more="t1"), status(410, "Expired", "too old"),
        listing(9, config_map("a", 1), more="t2"), listing(9, config_map("b", 8)),
    ]  # fmt: skip
    found = await client.list("ConfigMap", "shop")
    assert ([item["metadata"]["name"] for item in found.items], found.version) == (["a", "b"], "9")


async def test_a_list_has_a_limit(
    server: ApiServer, client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "MOST_ITEMS", 10)
    server.answers[f"GET {MAPS}"] = [listing(7, *(config_map(f"m{n}", n) for n in range(5)), more="again")]
    with pytest.raises(Exhausted, match="more than 10"):
        await client.list("ConfigMap", "shop")


# Writes and names


async def test_apply_says_who_and_takes_what_is_ours(server: ApiServer, client: ClusterClient) -> None:
    server.answers[f"PATCH {MAPS}/a"] = [(200, config_map("a", 1))]
    await client.apply(MAP)
    request = server.asked[-1]
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert dict(request.query) == {"fieldManager": "slipway", "force": "true"}
    server.answers[f"PATCH {MAPS}/a"] = [status(409, "Conflict", "Apply failed with 1 conflict")]
    with pytest.raises(Conflict):
        await client.apply(MAP, force=False)


@pytest.mark.parametrize("name", ["", "../secrets", "a/b", "a?x", "a%2fb", "x" * 300])
async def test_a_name_leads_nowhere_else(client: ClusterClient, name: str) -> None:
    with pytest.raises(Invalid):
        await client.get("ConfigMap", name, "shop")
    with pytest.raises(Invalid):
        await client.list("ConfigMap", name)
    with pytest.raises(Invalid):
        await client.run("shop", name, ["true"]).__aenter__()


async def test_a_namespace_has_to_be_named(client: ClusterClient) -> None:
    with pytest.raises(Invalid, match="namespace"):
        await client.get("ConfigMap", "a")


# Discovery


def test_versions_have_an_order() -> None:
    order = ["v2", "v2beta2", "v2beta1", "v1", "v1beta1", "v2alpha1", "v1alpha1", "strange"]
    assert [*sorted({*order}, key=rank, reverse=True)] == order


SCALER = {"HorizontalPodAutoscaler": ("horizontalpodautoscalers", True)}
OLD = {"autoscaling/v1": SCALER, "autoscaling/v2beta1": SCALER, "autoscaling/v2beta2": SCALER}
BUDGET = {"PodDisruptionBudget": ("poddisruptionbudgets", True)}


async def test_an_object_goes_in_the_version_that_is_served(server: ApiServer, client: ClusterClient) -> None:
    server.kinds |= OLD | {"policy/v1beta1": BUDGET}
    scalers = "/apis/autoscaling/v2beta2/namespaces/shop/horizontalpodautoscalers/a"
    server.answers[f"PATCH {scalers}"] = [(200, {})]
    await client.apply({**MAP, "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"})
    assert (await server.asked[-1].text()).count("autoscaling/v2beta2") == 1
    assert (await client.resource("PodDisruptionBudget")).api_version == "policy/v1beta1"
    first = await client._discovery.find("HorizontalPodAutoscaler.autoscaling", wanted="v1")
    assert first.api_version == "autoscaling/v1", "what is served is taken as it was written"


async def test_a_kind_that_split_off_a_group_is_found_where_it_is(
    server: ApiServer, client: ClusterClient
) -> None:
    server.kinds |= {"batch/v1": {"Job": ("jobs", True)}, "batch/v1beta1": {"CronJob": ("cronjobs", True)}}
    assert await client.resource("CronJob") == Resource("batch/v1beta1", "CronJob", "cronjobs", True)
    assert (await client.resource("Job")).api_version == "batch/v1"


async def test_a_kind_that_comes_later_is_found(server: ApiServer, client: ClusterClient) -> None:
    with pytest.raises(Unsupported, match="knows no Gadget"):
        await client.resource("Gadget")
    server.kinds["example.org/v1"] = {"Gadget": ("gadgets", False)}
    assert (await client.resource("Gadget")).path(name="g") == "/apis/example.org/v1/gadgets/g"
    assert (await client.resource("Gadget.example.org")).kind == "Gadget"


async def test_a_version_that_is_gone_is_looked_up_anew(server: ApiServer, client: ClusterClient) -> None:
    server.kinds["policy/v1beta1"] = BUDGET
    await client.resource("PodDisruptionBudget")
    server.kinds["policy/v1"] = server.kinds.pop("policy/v1beta1")  # the cluster was upgraded
    server.answers["GET /apis/policy/v1/namespaces/shop/poddisruptionbudgets/a"] = [(200, {"it": "is"})]
    assert await client.get("PodDisruptionBudget", "a", "shop") == {"it": "is"}


async def test_many_who_wait_for_a_server_that_is_away_wait_once(
    server: ApiServer, client: ClusterClient
) -> None:
    server.answers["GET /api"] = [status(503, "ServiceUnavailable", "starting")]
    found = await asyncio.gather(*(client.resource("Pod") for _ in range(50)), return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in found)
    assert server.paths() == ["GET /api"] * 3
    del server.answers["GET /api"]
    assert (await client.resource("Pod")).plural == "pods"


async def test_an_add_on_that_is_down_hides_nothing_else(server: ApiServer, client: ClusterClient) -> None:
    server.kinds["metrics.k8s.io/v1beta1"] = {}
    server.answers["GET /apis/metrics.k8s.io/v1beta1"] = [status(503, "ServiceUnavailable", "no endpoints")]
    server.kinds["example.org/v1"] = {"Gadget": ("gadgets", False)}
    assert (await client.resource("Gadget")).plural == "gadgets"


# Logs


def said(*lines: bytes, breaks: bool = False) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"".join(lines))
        await asyncio.sleep(0.05)
        if breaks and request.transport is not None:
            request.transport.abort()
        return response

    return answer


def pod(**state: Any) -> tuple[int, Any]:
    return 200, {
        "spec": {"containers": [{"name": "c"}]},
        "status": {"containerStatuses": [{"name": "c", "state": state}]},
    }


async def test_a_log_goes_on_after_a_break_with_no_line_twice(
    server: ApiServer, client: ClusterClient
) -> None:
    path = "GET /api/v1/namespaces/shop/pods/p/log"
    a, b = b"2026-01-01T00:00:00.1Z a\n", b"2026-01-01T00:00:01.25Z b\n"
    c, d, e = b"2026-01-01T00:00:01.25Z c\n", b"2026-01-01T00:00:01.3Z d\n", b"2026-01-01T00:00:02Z e\n"
    server.answers[path] = [said(a, b, breaks=True), said(b, c), said(b, c, d, e)]
    server.answers["GET /api/v1/namespaces/shop/pods/p"] = [pod(running={}), pod(terminated={})]
    # The first broke, the second ended though the container ran, the third is what it wrote until its end.
    server.answers[path].insert(2, said(b, c, d))
    got = [line async for line in client.logs("shop", "p", follow=True, timestamps=False)]
    assert got == [b"a", b"b", b"c", b"d", b"e"]
    asked = [request.query for request in server.asked if request.path.endswith("/log")]
    assert [query.get("sinceTime") for query in asked] == [None, *["2026-01-01T00:00:01Z"] * 3]
    assert [query.get("follow") for query in asked] == ["true", "true", "true", None]


async def test_long_lines_come_in_pieces(
    server: ApiServer, client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.kubernetes.podlogs.LONGEST_LINE", 100)
    server.answers["GET /api/v1/namespaces/shop/pods/p/log"] = [
        said(b"2026-01-01T00:00:00Z " + b"x" * 250 + b"\n2026-01-01T00:00:01Z y\n")
    ]
    got = [line async for line in client.logs("shop", "p")]
    assert [len(line) for line in got] == [100, 100, 71, 22]


async def test_a_log_that_cannot_begin_says_why(server: ApiServer, client: ClusterClient) -> None:
    path = "GET /api/v1/namespaces/shop/pods/p/log"
    server.answers[path] = [status(404, "NotFound", 'pods "p" not found')]
    with pytest.raises(NotFound):
        [line async for line in client.logs("shop", "p", follow=True)]
    server.answers[path] = [status(400, "BadRequest", 'container "c" is waiting to start: ContainerCreating')]
    with pytest.raises(Unavailable, match="waiting to start"):
        [line async for line in client.logs("shop", "p", follow=True)]
