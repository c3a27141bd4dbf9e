"""Starting the server in the background, and stopping it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from slipway.app.machine import take_down
from slipway.app.settings import Settings
from slipway.client import Client, Credentials
from slipway.errors import Failed, SlipwayError, Unavailable

_START_SECONDS = 120.0  # of a server that goes on starting; one that ends is told at once
_STOP_SECONDS = 30.0
_POLL = 0.05
_TAIL = 3000


def up(settings: Settings, words: Sequence[str]) -> str:
    """Start the server unless it runs, and return when it answers. ``words`` are its own arguments.

    Raises ``Failed`` with the end of its log when it does not come up.
    """
    if running(settings):
        return f"slipway runs already (pid {running(settings)})"
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = settings.data / "server.log"
    with log.open("ab") as handle:
        began = handle.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "slipway.app", "serve", *words],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
            cwd="/",
        )
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        if _answers(settings):
            return f"slipway is up (pid {process.pid}): {settings.url}, log in {log}"
        time.sleep(_POLL)
    text = log.read_bytes()[began:][-_TAIL:].decode(errors="replace").strip()
    raise Failed(f"the server did not start:\n{text}", hint=f"its whole log is {log}")


def _answers(settings: Settings) -> bool:
    try:
        Client(Credentials(f"unix://{settings.socket}")).status()
    except SlipwayError:
        return False
    return True


def running(settings: Settings) -> int:
    """The server's pid, or 0. The lock tells, not the file: a pid can be somebody else's by now."""
    try:
        fd = os.open(settings.run / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(settings.pid_file.read_text())
        return -1
    finally:
        os.close(fd)
    return 0


def down(settings: Settings, everything: bool) -> str:
    """Stop the server; ``everything`` also ends containers, networks and the balancer. Idempotent."""
    pid = running(settings)
    if pid > 0:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + _STOP_SECONDS
        while running(settings):
            if time.monotonic() > end:
                raise Unavailable(f"the server (pid {pid}) does not end", hint=f"kill -9 {pid}, it recovers")
            time.sleep(_POLL)
    if everything:
        asyncio.run(take_down(settings))
    stopped = "slipway is down" if pid else "slipway was not running"
    return stopped + (", nothing of it runs any more" if everything else "; containers keep running")
