"""The whole server's process: HTTP on TCP and on a unix socket that knows its callers."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import socket
import struct
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slipway.api.platform import create_app
from slipway.api.platform.callers import PEER
from slipway.api.registry import create_app as create_registry
from slipway.app import sockets
from slipway.app.platform import Platform, make_machine
from slipway.app.settings import Settings

log = logging.getLogger(__name__)


class _PeerProtocol(HttpToolsProtocol):
    """HTTP over the unix socket, with the uid of whoever is at the other end in the scope."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _pid, uid, _gid = struct.unpack("3i", peer)
        self.app = functools.partial(_with_peer, self.app, uid)


async def _with_peer(app: Any, uid: int, scope: Any, receive: Any, send: Any) -> None:
    scope[PEER] = uid
    await app(scope, receive, send)


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises ``Conflict`` when another server runs or the address is taken."""
    logging.basicConfig(
        level=settings["log.level"].upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    with sockets.only_one(settings):
        listener = sockets.listen(settings["listen"])
        platform = Platform(settings, await make_machine(settings))
        for check in platform.machine.facts.checks:
            if check.status != "ok":
                log.warning("%s: %s", check.name, check.detail)
        await platform.open()
        _tune_collector()
        try:
            await _serve_sockets(platform, settings, listener)
        finally:
            await platform.close()
            settings.socket.unlink(missing_ok=True)


def _tune_collector() -> None:
    """What is loaded by now stays; and a build that has 100,000 files in its hands is no reason to look at all of them
    every few hundred. Nothing large hangs in a cycle, so collections are for small change."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _serve_sockets(platform: Platform, settings: Settings, listener: socket.socket) -> None:
    app = create_app(platform.services())
    app.mount("/", create_registry(platform.registry, platform.access))
    tcp = sockets.Server(uvicorn.Config(app, http="httptools", **sockets.COMMON))
    local = sockets.Server(uvicorn.Config(app, http=_PeerProtocol, **sockets.COMMON))
    unix = _unix_socket(settings)
    sockets.stop_on_signals(tcp, local)
    log.info("serving on %s and %s", settings["listen"], settings.socket)
    async with asyncio.TaskGroup() as group:
        group.create_task(tcp.serve([listener]))
        group.create_task(local.serve([unix]))


def _unix_socket(settings: Settings) -> socket.socket:
    settings.socket.unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        found.bind(str(settings.socket))
    finally:
        os.umask(mask)
    found.listen(256)
    return found
