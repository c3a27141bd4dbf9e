"""Requests on their way from one server to the one that leads, over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from slipway.api.platform.forwarding import Forwarding, is_leaders
from slipway.app import sockets
from slipway.app.http import HttpProtocol
from slipway.testing.platform import free_port

Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Chosen:
    """Who leads, as the test says."""

    leads: bool = False
    address: str = ""
    asked: int = 0

    async def leader(self) -> str:
        return self.address

    def forget(self) -> None:
        self.asked += 1


@dataclass
class Node:
    """A server of several; ``seen`` are the requests that it answered itself."""

    url: str
    leaders: Chosen
    forwarding: Forwarding
    seen: list[Request] = field(default_factory=list)


@asynccontextmanager
async def node(handler: Handler, wait: float = 5.0, port: int = 0) -> AsyncIterator[Node]:
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    leaders = Chosen()

    async def answer(request: Request) -> Response:
        found.seen.append(request)
        return await handler(request)

    methods = ["GET", "POST", "PUT", "DELETE"]
    app = Starlette(routes=[Route("/{path:path}", answer, methods=methods)])
    found = Node(url, leaders, Forwarding(app, leaders, wait))
    config = uvicorn.Config(
        found.forwarding, http=HttpProtocol, timeout_graceful_shutdown=1, **sockets.COMMON
    )
    server = sockets.Server(config)
    serving = asyncio.create_task(server.serve([sockets.listen(f"127.0.0.1:{port}")]))
    try:
        yield found
    finally:
        server.should_exit = True
        await serving
        await found.forwarding.aclose()


@asynccontextmanager
async def pair(handler: Handler, wait: float = 5.0) -> AsyncIterator[tuple[Node, Node]]:
    """The one who leads, and one that hands on to it."""
    async with node(handler, wait) as leader, node(handler, wait) as other:
        leader.leaders.leads = True
        other.leaders.address = leader.url
        yield leader, other


async def echo(request: Request) -> Response:
    body = await request.body()
    seen = {"method": request.method, "path": request.url.path, "query": request.url.query, "size": len(body)}
    headers = {
        name: value for name, value in request.headers.items() if name.startswith(("x-", "auth", "host"))
    }
    return JSONResponse({**seen, **headers}, 201, {"X-Answer": "yes"})


def test_what_changes_something_is_the_leader_s() -> None:
    assert is_leaders("POST", "/api/v1/projects/a/builds")
    assert is_leaders("DELETE", "/api/v1/images")
    assert is_leaders("GET", "/api/v1/workers/work")
    for method, path in (
        ("GET", "/api/v1/builds"),
        ("POST", "/api/v1/login"),
        ("PUT", "/v2/a/b/manifests/1"),
    ):
        assert not is_leaders(method, path)


async def test_a_request_arrives_as_it_was() -> None:
    async with pair(echo) as (leader, other), aiohttp.ClientSession() as client:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield bytes(100_000)

        headers = {"Authorization": "Bearer a", "X-Kept": "1", "X-Ours": "2", "Connection": "x-ours"}
        address = f"{other.url}/api/v1/a%2Fb?c=%20d&e"
        async with client.post(address, data=pieces(), headers=headers) as answer:
            assert (answer.status, answer.headers["X-Answer"]) == (201, "yes")
            assert len(answer.headers.getall("Date")) == 1
            found = await answer.json()
        assert found["query"] == "c=%20d&e"
        assert found["size"] == 5_000_000
        assert (found["authorization"], found["x-kept"]) == ("Bearer a", "1")
        assert "x-ours" not in found
        assert found["host"] == other.url.removeprefix("http://")
        assert leader.seen[0].scope["raw_path"] == b"/api/v1/a%2Fb"
        assert not other.seen
        async with client.delete(f"{other.url}/api/v1/a") as answer:
            assert (await answer.json())["size"] == 0
        async with client.get(f"{other.url}/api/v1/a") as answer:
            assert answer.status == 201
        assert len(other.seen) == 1
        async with client.post(f"{leader.url}/api/v1/a") as answer:
            assert answer.status == 201


async def test_events_come_as_they_are_told_and_a_client_that_leaves_ends_the_work() -> None:
    ended = asyncio.Event()

    async def stream(request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            try:
                for number in range(1000):
                    yield json.dumps({"n": number}).encode() + b"\n"
                    await asyncio.sleep(0 if number < 2 else 60)
            finally:
                ended.set()

        return StreamingResponse(events(), media_type="application/x-ndjson")

    async with pair(stream) as (_, other), aiohttp.ClientSession() as client:
        async with asyncio.timeout(30):
            async with client.post(f"{other.url}/api/v1/a") as answer:
                assert json.loads(await answer.content.readline()) == {"n": 0}
                assert json.loads(await answer.content.readline()) == {"n": 1}
                answer.close()
            await ended.wait()


async def test_a_leader_that_ends_in_the_middle_is_said() -> None:
    async def broken(request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b'{"event": "phase"}\n'
            raise ConnectionError

        return StreamingResponse(events(), media_type="application/x-ndjson")

    async with pair(broken) as (_, other), aiohttp.ClientSession() as client:
        async with client.post(f"{other.url}/api/v1/a") as answer:
            lines = [json.loads(line) async for line in answer.content]
        assert lines[0] == {"event": "phase"}
        assert (lines[1]["event"], lines[1]["kind"]) == ("error", "interrupted")


async def test_a_request_waits_for_a_new_leader_but_not_for_ever() -> None:
    async with node(echo, 20) as other, aiohttp.ClientSession() as client:
        other.leaders.address = f"http://127.0.0.1:{free_port()}"  # that of one that is gone
        asking = asyncio.create_task(client.post(f"{other.url}/api/v1/a", data=b"x"))
        async with asyncio.timeout(30):
            while not other.leaders.asked:
                await asyncio.sleep(0.01)
            async with node(echo) as leader:
                leader.leaders.leads = True
                other.leaders.address = leader.url
                assert (await asking).status == 201

    async with node(echo, 0.1) as other, aiohttp.ClientSession() as client:
        async with client.post(f"{other.url}/api/v1/a", data=b"x") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert (await answer.json())["error"]["kind"] == "unavailable"


async def test_a_server_that_does_not_lead_any_more_gets_nothing_of_the_body() -> None:
    async with pair(echo, 20) as (leader, other), node(echo, 20) as stale, aiohttp.ClientSession() as client:
        stale.leaders.address = leader.url  # what it knows itself is not asked for
        other.leaders.address = stale.url

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield bytes(100_000)

        asking = asyncio.create_task(client.post(f"{other.url}/api/v1/a", data=pieces()))
        async with asyncio.timeout(60):
            while not other.leaders.asked:
                await asyncio.sleep(0.01)
            other.leaders.address = leader.url
            assert (await (await asking).json())["size"] == 5_000_000
        assert not stale.seen


async def test_a_request_that_waited_is_answered_here_when_this_server_leads() -> None:
    async with node(echo, 20) as other, aiohttp.ClientSession() as client:
        asking = asyncio.create_task(client.post(f"{other.url}/api/v1/a", data=b"x"))
        await asyncio.sleep(0)
        other.leaders.leads = True
        async with asyncio.timeout(30):
            assert (await asking).status == 201
        assert len(other.seen) == 1


@pytest.mark.parametrize("believed", [True, False])
async def test_two_that_believe_the_other_leads_do_not_send_a_request_round(believed: bool) -> None:
    async with node(echo, 1) as one, node(echo, 1) as two, aiohttp.ClientSession() as client:
        one.leaders.address = two.url
        two.leaders.address = one.url if believed else ""
        async with client.post(f"{one.url}/api/v1/a") as answer:
            assert answer.status == 503
    assert not one.seen
    assert not two.seen
