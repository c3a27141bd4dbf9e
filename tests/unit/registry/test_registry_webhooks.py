"""Webhooks against a real receiver: signed, in order, again after a failure, never to the server itself."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import update

from slipway.access import Vault
from slipway.base.clock import now
from slipway.errors import Invalid, NotFound
from slipway.registry.webhooks import Webhooks
from slipway.state.tables import WebhookDelivery
from slipway.testing.registry import Serving, serving


@dataclass
class Receiver:
    url: str = ""
    status: int = 200
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(
            status=self.status, headers={"Location": self.url} if self.status == 302 else None
        )


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield found
    await runner.cleanup()


async def send(hooks: Webhooks, server: Serving) -> int:
    """Everything that is due, and what was put off for a while."""
    async with server.database.session() as session:
        await session.execute(update(WebhookDelivery).values(due=now() - timedelta(seconds=1)))
    async with aiohttp.ClientSession() as client:
        return await hooks.send_due(client)


async def test_a_push_is_told_once_and_signed(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, receiver() as there:
        hooks = Webhooks(server.database, Vault(tmp_path / "keys"), local=True)
        made = await hooks.add("lib", there.url, ["image.pushed"])
        image = await server.manifest("lib/x", b"layer", tag="1")
        await server("DELETE", "/v2/lib/x/manifests/1")  # not asked for
        assert await send(hooks, server) == 1
        [(headers, body)] = there.got
        event = json.loads(body)
        assert headers["Content-Type"].startswith("application/cloudevents+json")
        assert (event["specversion"], event["type"], event["subject"]) == (
            "1.0",
            "io.slipway.image.pushed",
            "lib/x",
        )
        assert event["data"] == {
            "repository": "lib/x", "tag": "1", "digest": image["digest"], "project": "lib", "actor": "tester",
        }  # fmt: skip
        seconds, _, mac = headers["Slipway-Signature"].removeprefix("t=").partition(",v1=")
        wanted = hmac.new(made.secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(mac, wanted)
        assert await send(hooks, server) == 0
        assert made.secret.encode() not in (tmp_path / "state.db-wal").read_bytes()


async def test_what_was_not_taken_is_sent_again_and_once_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, receiver() as there:
        hooks = Webhooks(server.database, Vault(tmp_path / "keys"), local=True)
        made = await hooks.add("lib", there.url, [])
        await server.manifest("lib/x", b"layer", tag="1")
        there.status = 500
        assert await send(hooks, server) == 1
        there.status = 302  # leads nowhere: redirects are not followed
        assert await send(hooks, server) == 1
        [delivery] = await hooks.deliveries("lib", made.id)
        assert (delivery.state, delivery.attempts, delivery.answer) == ("pending", 2, "302")
        assert delivery.due > now()
        there.status = 204
        assert await send(hooks, server) == 1
        [delivery] = await hooks.deliveries("lib", made.id)
        assert (delivery.state, delivery.attempts, len(there.got)) == ("done", 3, 3)
        assert len({json.loads(body)["id"] for _, body in there.got}) == 1
        await server.manifest("lib/x", b"other", tag="1")
        async with server.database.session() as session:
            old = {"time": (now() - timedelta(days=2)).isoformat(), "type": "x", "subject": "y"}
            pending = WebhookDelivery.state == "pending"
            await session.execute(update(WebhookDelivery).where(pending).values(event=old))
        there.status = 500
        await send(hooks, server)
        assert (await hooks.all("lib"))[0].failed == 1


async def test_the_server_itself_is_told_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, receiver() as there:
        hooks = Webhooks(server.database, Vault(tmp_path / "keys"))
        made = await hooks.add("lib", there.url, [])
        await hooks.add("lib", "http://169.254.169.254/latest", [])
        await server.manifest("lib/x", b"layer", tag="1")
        assert await send(hooks, server) == 2
        assert there.got == []
        [delivery] = await hooks.deliveries("lib", made.id)
        assert "own machine" in delivery.answer


async def test_webhooks_belong_to_their_project(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        hooks = Webhooks(server.database, Vault(tmp_path / "keys"))
        await server.access.create_project("other")
        made = await hooks.add("lib", "https://example.org/", [])
        for act in (hooks.remove("other", made.id), hooks.deliveries("other", made.id)):
            with pytest.raises(NotFound):
                await act
        for url, kinds in (("ftp://x/", []), ("https://u:p@x/", []), ("https://x/", ["no.such"]), ("x", [])):
            with pytest.raises(Invalid):
                await hooks.add("lib", url, kinds)
        await hooks.remove("lib", made.id)
        assert await hooks.all("lib") == []
