"""A watch is one stream, whatever happens to the connections under it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from slipway.errors import Denied
from slipway.kubernetes import ClusterClient, read_kubeconfig
from slipway.kubernetes import watching as watching_module
from slipway.kubernetes.transport import Transport
from slipway.testing.api_server import Answer, ApiServer, api_server, config_map, events, listing, status

MAPS = "GET /api/v1/namespaces/shop/configmaps"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with api_server() as found:
        yield found


class Play:
    """Lists and watches have the same path and their own answers."""

    def __init__(self, server: ApiServer, lists: Sequence[Answer], watches: Sequence[Answer]) -> None:
        self.lists, self.watches, self.versions = list(lists), list(watches), [""]
        server.answers[MAPS] = [self.answer]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        watch = "watch" in request.query
        if watch:
            self.versions.append(request.query["resourceVersion"])
        answers = self.watches if watch else self.lists
        if not answers:
            await asyncio.sleep(3600)
        answer = answers.pop(0)
        if isinstance(answer, tuple):
            return web.json_response(answer[1], status=answer[0])
        return await answer(request)


async def told(server: ApiServer, count: int) -> list[tuple[str, str]]:
    endpoint = read_kubeconfig(server.kubeconfig())
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(60), ClusterClient(endpoint, Transport(endpoint, (0.01,))) as client:
        async with aclosing(client.watch("ConfigMap", "shop")) as changes:
            async for change in changes:
                found.append((change.type, change.object.get("metadata", {}).get("name", "")))
                if len(found) == count:
                    break
    return found


def at(version: int) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version)}}


async def test_what_there_is_and_then_every_change(server: ApiServer) -> None:
    play = Play(
        server,
        [listing(5, config_map("a", 1), config_map("b", 2))],
        [
            events(
                ("MODIFIED", config_map("a", 6)),
                ("DELETED", config_map("b", 7)),
                ("ADDED", config_map("c", 8)),
            )
        ],
    )
    assert await told(server, 6) == [
        ("added", "a"), ("added", "b"), ("synced", ""), ("modified", "a"), ("deleted", "b"), ("added", "c"),
    ]  # fmt: skip
    assert play.versions[1] == "5"


async def test_a_broken_connection_goes_on_from_the_last_bookmark(server: ApiServer) -> None:
    play = Play(
        server,
        [listing(5)],
        [
            events(("ADDED", config_map("a", 6)), ("BOOKMARK", at(50)), breaks=True),
            status(503, "ServiceUnavailable", "restarting"),
            events(),
            events(("MODIFIED", config_map("a", 60))),
        ],
    )
    assert await told(server, 3) == [("synced", ""), ("added", "a"), ("modified", "a")]
    assert play.versions[1:5] == ["5", "50", "50", "50"]


@pytest.mark.parametrize(
    "gone",
    [
        status(410, "Expired", "too old resource version"),
        events(("ERROR", status(410, "Expired", "too old resource version")[1])),
        events(("ADDED", {"no": "metadata"})),
    ],
)
async def test_an_expired_version_is_made_good_by_a_new_list(server: ApiServer, gone: Answer) -> None:
    before = [config_map("same", 1), config_map("changed", 2), config_map("gone", 3), config_map("reborn", 4)]
    after = [
        config_map("same", 1),
        config_map("changed", 8),
        config_map("reborn", 9, uid="another"),
        config_map("new", 7),
    ]
    play = Play(
        server,
        [listing(5, *before), listing(10, *after)],
        [gone, events(("DELETED", config_map("same", 11)))],
    )
    found = await told(server, 12)
    assert found[:5] == [
        ("added", "same"), ("added", "changed"), ("added", "gone"), ("added", "reborn"), ("synced", ""),
    ]  # fmt: skip
    assert found[5:] == [
        ("deleted", "gone"), ("modified", "changed"), ("deleted", "reborn"), ("added", "reborn"), ("added", "new"),
        ("synced", ""), ("deleted", "same"),
    ]  # fmt: skip
    assert play.versions[1:] == ["5", "10"]


async def test_a_server_that_starts_refuses_for_a_moment(server: ApiServer) -> None:
    refused = status(403, "Forbidden", "RBAC: not yet")
    Play(
        server,
        [listing(5), listing(5, config_map("a", 6))],
        [refused, events(("DELETED", config_map("a", 7)))],
    )
    assert await told(server, 4) == [("synced", ""), ("added", "a"), ("synced", ""), ("deleted", "a")]


async def test_what_may_not_be_seen_is_said_at_once(server: ApiServer) -> None:
    Play(server, [status(403, "Forbidden", "cannot list")], [])
    with pytest.raises(Denied):
        await told(server, 1)


async def test_a_right_that_was_taken_away_ends_it(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching_module, "_SLOWEST", 0.01)
    Play(
        server,
        [listing(5)] + [status(403, "Forbidden", "cannot list")] * 20,
        [status(403, "Forbidden", "no")] * 20,
    )
    endpoint = read_kubeconfig(server.kubeconfig())
    async with ClusterClient(endpoint, Transport(endpoint, ())) as client:
        watch = watching_module.Watch(
            client._transport, client._discovery, "ConfigMap", "shop", {}, slowest=0.01
        )
        with pytest.raises(Denied):
            async with asyncio.timeout(60):
                [change async for change in watch.changes()]


async def test_an_event_has_a_limit(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching_module, "_LONGEST_EVENT", 1000)
    huge = events(("ADDED", config_map("a", 6, big="x" * 2000)))
    Play(server, [listing(5), listing(6, config_map("a", 6))], [huge])
    assert await told(server, 3) == [("synced", ""), ("added", "a"), ("synced", "")]
