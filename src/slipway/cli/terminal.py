"""This side of a command that runs elsewhere: the keyboard, the screen, their size."""

from __future__ import annotations

import base64
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from slipway.client import Client
from slipway.client.transport import error_from
from slipway.errors import Interrupted, SlipwayError


class _Keyboard:
    """Standard input, as much as there is at a time."""

    def read(self, size: int) -> bytes:
        return os.read(0, size)


def has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def execute(
    client: Client, project: str, app: str, service: str, replica: int, command: Sequence[str], *,
    terminal: bool, takes_input: bool,
) -> int:  # fmt: skip
    """The command's exit code. Raises what kept it from running, and ``Interrupted`` when the server went away."""
    size = os.get_terminal_size(1) if terminal else os.terminal_size((80, 24))
    request = {
        "service": service, "replica": replica, "command": list(command), "input": takes_input, "terminal": terminal,
        "columns": max(1, size.columns), "rows": max(1, size.lines),
    }  # fmt: skip
    with _raw(terminal):
        for event in client.execute(project, app, request):
            if event["event"] == "error":
                raise error_from(event)
            if event["event"] == "exec":
                _begin(client, str(event["session"]), terminal, takes_input)
            elif event["event"] == "output":
                _write(2 if event["stream"] == "stderr" else 1, base64.b64decode(event["data"]))
            elif event["event"] == "done":
                return int(event["result"]["code"])
    raise Interrupted("the server went away before the command was done")


def _begin(client: Client, session: str, terminal: bool, takes_input: bool) -> None:
    if takes_input:
        threading.Thread(target=_send_input, args=(client, session), daemon=True).start()
    if terminal:

        def resized(*_: Any) -> None:
            columns, rows = os.get_terminal_size(1)
            with suppress(SlipwayError, OSError):
                client.execute_resize(session, max(1, columns), max(1, rows))

        signal.signal(signal.SIGWINCH, resized)


def _send_input(client: Client, session: str) -> None:
    with suppress(SlipwayError, OSError):  # the command has ended: its output says how
        client.execute_input(session, _Keyboard())


@contextmanager
def _raw(terminal: bool) -> Iterator[None]:
    """Every key goes there as it is, also those that would end us."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
