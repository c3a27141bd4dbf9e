"""What every role's process does: one instance a run directory, a listening socket, an end on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from slipway.app.settings import Settings
from slipway.base.files import atomic_write
from slipway.errors import Conflict

COMMON: dict[str, Any] = {
    "log_config": None, "access_log": False, "lifespan": "off", "ws": "none", "loop": "asyncio",
}  # fmt: skip


def configured(settings: Settings, app: Any, http: type) -> uvicorn.Config:
    return uvicorn.Config(
        app, http=http, timeout_graceful_shutdown=settings["grace_seconds"],
        forwarded_allow_ips=list(settings["proxies"]), **COMMON,
    )  # fmt: skip


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: two servers share one process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def stop_on_signals(*servers: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, *servers)


def _stop(*servers: uvicorn.Server) -> None:
    for server in servers:
        server.should_exit = True


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
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


def listen(address: str) -> socket.socket:
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
