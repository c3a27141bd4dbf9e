"""A command in a container that runs, over a WebSocket: ``v5.channel.k8s.io`` where known, else v4.

Each message's first byte is its channel: 0 standard input, 1 output, 2 error output, 3 how it ended (a Status), 4 the
terminal's size. Only v5 (Kubernetes 1.30) can say that the input is at its end. For v4 a command is given a pipe from
``base64``, which gets lines until one that is a dot.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from slipway.errors import Failed, Unavailable
from slipway.kubernetes.transport import Transport

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_PIECE = 3 * 64 * 1024  # encoded without padding, but for the last one
_MOST_MESSAGE = 1024 * 1024
_STDIN, _STDOUT, _STDERR, _END, _SIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_STREAMS = {_STDOUT: "stdout", _STDERR: "stderr"}
_UNPACKED = "sed -n '/^\\.$/q;p' | base64 -d | \"$@\""


class PodCommand:
    """See ``slipway.delivery.commands.Command`` for what the methods do."""

    def __init__(
        self, connection: aiohttp.ClientWebSocketResponse, what: str, *, takes_input: bool, packed: bool,
        closes_input: bool,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._what = what
        self._takes_input = takes_input
        self._packed = packed
        self._closes_input = closes_input
        self._held = b""
        self._status: dict[str, Any] | None = None

    async def write(self, data: bytes) -> None:
        if not self._takes_input:
            return
        if self._packed:
            self._held += data
            while len(self._held) >= _PIECE or (self._held and not data):
                piece, self._held = self._held[:_PIECE], self._held[_PIECE:]
                await self._send(_STDIN, base64.b64encode(piece) + b"\n")
            if not data:
                await self._send(_STDIN, b".\n.\n")  # busybox's sed looks at a line when it has the next
        elif data:
            for start in range(0, len(data), _PIECE):
                await self._send(_STDIN, data[start : start + _PIECE])
        elif self._closes_input:
            await self._send(_CLOSE, bytes([_STDIN]))
        self._takes_input = self._takes_input and bool(data)

    async def resize(self, columns: int, rows: int) -> None:
        await self._send(_SIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    async def _send(self, channel: int, data: bytes) -> None:
        if not self._connection.closed:
            try:
                await self._connection.send_bytes(bytes([channel]) + data)
            except (ConnectionError, aiohttp.ClientError):  # it has ended; how, its output's end says
                return

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        async for message in self._connection:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == _END:
                self._status = _status(data)
            elif channel in _STREAMS and data:
                yield _STREAMS[channel], data
        if self._status is None:
            raise Unavailable(
                f"could not {self._what}: the connection ended before the command did",
                hint="a cluster also hangs up on a command that ends while much of its input is on its way",
            )

    async def code(self) -> int:
        if self._status is None:
            async for _ in self.output():
                continue
        return _code(self._status or {}, self._what)


@asynccontextmanager
async def run_in_pod(
    transport: Transport, namespace: str, pod: str, command: Sequence[str], container: str | None, *,
    takes_input: bool, terminal: bool, knows_v5: bool,
) -> AsyncIterator[PodCommand]:  # fmt: skip
    """``knows_v5``: the cluster does. Without, a command with input and no terminal needs ``sh``, ``sed`` and
    ``base64`` beside it. At a terminal, the input's end is what is typed there."""
    packed = takes_input and not terminal and not knows_v5
    words = ["sh", "-c", _UNPACKED, "sh", *command] if packed else list(command)
    params = [("command", word) for word in words]
    params += [("stdout", "true"), *([] if terminal else [("stderr", "true")])]
    params += [("stdin", "true")] if takes_input else []
    params += [("tty", "true")] if terminal else []
    params += [("container", container)] if container else []
    what = f"run {command[0]} in {namespace}/{pod}"
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
    protocols = _PROTOCOLS if knows_v5 else _PROTOCOLS[1:]
    async with transport.websocket(path, what, params, protocols, _MOST_MESSAGE) as connection:
        closes_input = knows_v5 and not terminal
        yield PodCommand(connection, what, takes_input=takes_input, packed=packed, closes_input=closes_input)


def _status(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": data.decode(errors="replace")[:2000]}


def _code(status: dict[str, Any], what: str) -> int:
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdigit():
            return int(cause["message"])
    raise Failed(f"could not {what}: {str(status.get('message') or 'no reason given')[:2000]}")
