"""The server process: sockets, signals, one instance a machine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import gc
import logging
import os
import signal
import socket
import struct
from collections.abc import Iterator
from typing import Any

import uvicorn

from slipway.api.platform import create_app
from slipway.api.platform.callers import PEER
from slipway.api.registry import create_app as create_registry
from slipway.app.http import HttpProtocol
from slipway.app.platform import Platform, make_machine
from slipway.app.settings import Settings
from slipway.base import linux
from slipway.base.files import atomic_write
from slipway.errors import Conflict

log = logging.getLogger(__name__)
_GRACE_SECONDS = 5
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


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: two servers share one process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises ``Conflict`` when another server runs or the address is taken."""
    logging.basicConfig(
        level=settings["log.level"].upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    with _only_one(settings):
        listener = _listen(settings["listen"])
        platform = Platform(settings, await make_machine(settings))
        for check in platform.machine.facts.checks:
            if check.status != "ok":
                log.warning("%s: %s", check.name, check.detail)
        await platform.open()
        _tune_collector()
        linux.return_memory_above(_KEPT_BLOCK)
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
    app = _both(create_app(platform.services()), create_registry(platform.registry, platform.access))
    common: dict[str, Any] = {
        "log_config": None, "access_log": False, "lifespan": "off", "timeout_graceful_shutdown": _GRACE_SECONDS,
        "ws": "none", "loop": "asyncio",
    }  # fmt: skip
    tcp = _Server(uvicorn.Config(app, http=HttpProtocol, **common))
    local = _Server(uvicorn.Config(app, http=_PeerProtocol, **common))
    unix = _unix_socket(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, tcp, local)
    log.info("serving on %s and %s", settings["listen"], settings.socket)
    async with asyncio.TaskGroup() as group:
        group.create_task(tcp.serve([listener]))
        group.create_task(local.serve([unix]))


def _both(platform: Any, registry: Any) -> Any:
    """One application of the two. The platform's middleware is not in the way of the registry's requests."""
    platform.mount("/", registry)

    async def choose(scope: Any, receive: Any, send: Any) -> None:
        await (registry if scope["path"].startswith("/v2/") else platform)(scope, receive, send)

    return choose


def _stop(*servers: uvicorn.Server) -> None:
    for server in servers:
        server.should_exit = True


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    settings.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(settings.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Conflict(
            "another server runs on this machine", hint="`slipway status` asks it; `slipway down` stops it"
        ) from error
    atomic_write(settings.pid_file, f"{os.getpid()}\n")
    try:
        yield
    finally:
        settings.pid_file.unlink(missing_ok=True)
        os.close(fd)


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    # The protocol is named since asyncio sends small packets at once only where it is: else every answer whose head and
    # body are two writes waits 40 ms for the client's delayed acknowledgement.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host.strip("[]"), int(port)))
        found.listen(1024)
    except OSError as error:
        found.close()
        raise Conflict(
            f"the address {address} is in use or not ours: {error.strerror}",
            hint="stop what listens there (`ss -ltnp`), or set `listen` to another address",
        ) from error
    return found


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
