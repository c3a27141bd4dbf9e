"""The server's sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from slipway.app.http import HttpProtocol
from slipway.app.settings import load
from slipway.app.sockets import Server, configured, listen
from slipway.testing.platform import free_port


async def test_small_answers_are_not_held_back_by_the_kernel() -> None:
    """Nagle's algorithm and a client's delayed acknowledgement cost 40 ms for each answer of two writes."""
    seen: list[Any] = []

    async def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    address = f"127.0.0.1:{free_port()}"
    async with await asyncio.start_server(accepted, sock=listen(address)):
        reader, writer = await asyncio.open_connection(*address.split(":"))
        await reader.read()
        writer.close()
    assert seen == [1]


@pytest.mark.parametrize(
    ("proxies", "seen"),
    [
        ("", ["http", "127.0.0.1"]),
        ("10.0.0.0/8", ["http", "127.0.0.1"]),
        ("127.0.0.0/8", ["https", "192.0.2.7"]),
    ],
)
async def test_only_known_proxies_say_who_asks_and_how(proxies: str, seen: list[str]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse([scope["scheme"], scope["client"][0]])(scope, receive, send)

    settings = load(None, {"SLIPWAY_PROXIES": proxies})
    address = f"127.0.0.1:{free_port()}"
    server = Server(configured(settings, app, HttpProtocol))
    serving = asyncio.create_task(server.serve([listen(address)]))
    try:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.1, 192.0.2.7"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{address}/", headers=headers) as answer,
        ):
            assert await answer.json() == seen
    finally:
        server.should_exit = True
        await serving
