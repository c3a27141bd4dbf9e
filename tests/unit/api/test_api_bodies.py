"""What a request may make the server hold."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from slipway.access import Identity
from slipway.api import platform
from slipway.api.platform import bodies as limits
from slipway.api.platform import create_app
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.services import Services
from slipway.errors import Unauthenticated

PIECE = b" " * 16 * 1024


class _Access:
    async def check_session(self, token: str) -> Identity:
        if token != "good":
            raise Unauthenticated("the login is not valid")
        return Identity("ada", "user", 1)


class _Endless:
    """A body that goes on for as long as somebody reads it, or comes no further after some pieces."""

    def __init__(self, stops_after: int) -> None:
        self.left = stops_after
        self.read = 0
        self.status = 0
        self.answer = b""

    async def receive(self) -> dict[str, Any]:
        self.left -= 1
        if self.left < 0:
            await asyncio.Event().wait()
        self.read += len(PIECE)
        return {"type": "http.request", "body": PIECE, "more_body": True}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.answer += message.get("body", b"")


async def ask(path: str, token: str = "", stops_after: int = 1 << 30) -> _Endless:
    app = create_app(cast(Services, SimpleNamespace(access=_Access())))
    headers = [(b"content-type", b"application/json")]
    if token:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    found = _Endless(stops_after)
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "root_path": "", "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 1), "asgi": {"version": "3.0", "spec_version": "2.3"},
    }  # fmt: skip
    await app(scope, found.receive, found.send)
    return found


@pytest.mark.parametrize("token", ["", "bad"])
@pytest.mark.parametrize("path", ["/api/v1/login", "/api/v1/projects/demo/deliver"])
async def test_who_is_not_known_makes_the_server_hold_little(path: str, token: str) -> None:
    found = await ask(path, token)
    assert found.status == 401
    assert found.read <= limits.MOST_OF_ANYBODY + len(PIECE)


async def test_nobody_makes_it_hold_just_anything() -> None:
    found = await ask("/api/v1/projects/demo/deliver", "good")
    assert found.status == 400
    assert "larger than" in json.loads(found.answer)["error"]["message"]
    assert found.read <= limits.MOST + len(PIECE)


async def test_who_is_not_known_does_not_keep_it_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS_OF_ANYBODY", 0.05)
    found = await ask("/api/v1/login", stops_after=1)
    assert found.status == 400
    assert "did not come within" in json.loads(found.answer)["error"]["message"]


def test_no_route_is_left_out() -> None:
    modules = [vars(platform)[name] for name in vars(platform) if not name.startswith("_")]
    routers = [found for module in modules if isinstance(found := getattr(module, "router", None), APIRouter)]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    with_bodies = [route for route in routes if route.body_field is not None]
    assert len(with_bodies) > 20
    assert all(isinstance(route, BoundedRoute) for route in routes)
