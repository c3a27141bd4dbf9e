"""The whole server's process: HTTP on TCP and on a unix socket that knows its callers."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from slipway.api.platform import create_app
from slipway.api.platform.callers import PEER
from slipway.api.registry import Pace
from slipway.api.registry import create_app as create_registry
from slipway.app import sockets
from slipway.app.http import HttpProtocol
from slipway.app.identity import server_id
from slipway.app.leadership import LEASE_SECONDS, Leadership, end_at_once
from slipway.app.machine import make_machine
from slipway.app.platform import Platform
from slipway.app.settings import Settings
from slipway.app.tls import ServerTls, is_loopback, tls_of
from slipway.base import linux
from slipway.base.rate import RateLimit

log = logging.getLogger(__name__)
# Most of them wait for the disk: those of twenty builds should not wait for each other.
_THREADS = 32
_ARENAS = 4
_PATIENCE_SECONDS = LEASE_SECONDS + 3  # with one that was killed and is another machine's
_KEPT_BLOCK = 4 * 1024 * 1024  # above: what checking one password takes (19 MiB), in as many threads as check


class _PeerProtocol(HttpProtocol):
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
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "work"))
    _watch_children()
    with sockets.only_one(settings):
        tls = tls_of(settings)
        if tls is None and not is_loopback(settings["listen"]):
            log.warning(
                "%s is plain HTTP: passwords can be read on the way; see docs/access.md", settings.url
            )
        listener = sockets.listen(settings["listen"])
        machine = await make_machine(settings)
        platform = Platform(settings, machine)
        for check in machine.facts.checks:
            if check.status != "ok":
                log.warning("%s: %s", check.name, check.detail)
        try:
            await platform.prepare()
            async with _leading(platform, settings):
                await platform.take_charge()
                _tune_collector()
                linux.return_memory_above(_KEPT_BLOCK)
                linux.limit_arenas(_ARENAS)
                await _serve_sockets(platform, settings, listener, tls)
                await platform.end_charge()
        finally:
            await platform.close()
            settings.socket.unlink(missing_ok=True)


def _watch_children() -> None:
    """By descriptors. Python 3.11 has a thread wait for each process; 3.12 does this by itself."""
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)


@asynccontextmanager
async def _leading(platform: Platform, settings: Settings) -> AsyncIterator[None]:
    """The one server of a database that builds and delivers: API servers on a cluster hand on to this one meanwhile.

    Raises ``Conflict`` when one of them leads.
    """
    if platform.database.is_local:
        yield
        return
    address = settings["kubernetes.server"] or settings.url
    leadership = Leadership(platform.database, server_id(settings.data), address)
    await leadership.won(asyncio.Event(), _PATIENCE_SECONDS)
    async with leadership.kept(when_in_doubt=True) as lost:
        lost.add_done_callback(end_at_once)
        yield


def _tune_collector() -> None:
    """What is loaded by now stays; and a build that has 100,000 files in its hands is no reason to look at all of them
    every few hundred. Nothing large hangs in a cycle, so collections are for small change."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _serve_sockets(
    platform: Platform, settings: Settings, listener: socket.socket, tls: ServerTls | None
) -> None:
    idle, rate = settings["registry.idle_seconds"], RateLimit(settings["registry.requests_per_second"])
    registry = create_registry(
        platform.registry, platform.access, platform.through, Pace(idle), rate, platform.gate
    )
    app = _both(create_app(platform.services()), registry)
    protocol = type("_Protocol", (HttpProtocol,), {"idle": idle})
    tcp = sockets.Server(sockets.configured(settings, app, protocol))
    if tls is not None:
        tcp.config.load()
        tcp.config.ssl = tls.context
    local = sockets.Server(sockets.configured(settings, app, _PeerProtocol))
    unix = _unix_socket(settings)
    sockets.stop_on_signals(tcp, local)
    log.info("serving on %s and %s", settings.url, settings.socket)
    renewal = asyncio.create_task(tls.run_forever()) if tls is not None else None
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(tcp.serve([listener]))
            group.create_task(local.serve([unix]))
    finally:
        if renewal is not None:
            renewal.cancel()


def _both(platform: Any, registry: Any) -> Any:
    """One application of the two. The platform's middleware is not in the way of the registry's requests."""
    platform.mount("/", registry)

    async def choose(scope: Any, receive: Any, send: Any) -> None:
        await (registry if scope["path"].startswith("/v2/") else platform)(scope, receive, send)

    return choose


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
