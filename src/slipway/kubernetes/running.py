"""A command in a container that runs, over a WebSocket: ``v5.channel.k8s.io`` where known, else v4.

Each message's first byte is its channel: 0 standard input, 1 output, 2 error output, 3 how it ended (a Status).
Only v5 (Kubernetes 1.30) can say that the input is at its end; for v4 the command is given a pipe from ``head``,
which knows its length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from slipway.errors import Exhausted, Failed, Unavailable
from slipway.kubernetes.transport import Transport

MOST_OUTPUT = 16 * 1024 * 1024
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_PIECE = 256 * 1024
_MOST_MESSAGE = 1024 * 1024
_STDIN, _STDOUT, _STDERR, _END, _CLOSE = 0, 1, 2, 3, 255
_COUNTED = 'n=$1; shift; head -c "$n" | "$@"'


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended, by itself."""

    code: int
    stdout: bytes
    stderr: bytes


async def run_in_pod(
    transport: Transport, namespace: str, pod: str, command: Sequence[str], container: str | None,
    stdin: bytes | None, closes_input: bool,
) -> Completed:  # fmt: skip
    """``closes_input``: the cluster knows v5. Without, a command with ``stdin`` needs ``sh`` and ``head`` beside it."""
    words = list(command)
    if stdin is not None and not closes_input:
        words = ["sh", "-c", _COUNTED, "sh", str(len(stdin)), *words]
    params = [("command", word) for word in words]
    params += [("stdout", "true"), ("stderr", "true")]
    params += [("stdin", "true")] if stdin is not None else []
    params += [("container", container)] if container else []
    what = f"run {command[0]} in {namespace}/{pod}"
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
    protocols = _PROTOCOLS if closes_input else _PROTOCOLS[1:]
    async with transport.websocket(path, what, params, protocols, _MOST_MESSAGE) as connection:
        if stdin is not None:
            for start in range(0, len(stdin), _PIECE):
                await connection.send_bytes(bytes([_STDIN]) + stdin[start : start + _PIECE])
            if closes_input:
                await connection.send_bytes(bytes([_CLOSE, _STDIN]))
        return await _ending(connection, what)


async def _ending(connection: aiohttp.ClientWebSocketResponse, what: str) -> Completed:
    output: dict[int, list[bytes]] = {_STDOUT: [], _STDERR: []}
    size = 0
    status: dict[str, Any] | None = None
    async for message in connection:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == _END:
            status = _status(data)
        elif channel in output:
            size += len(data)
            if size > MOST_OUTPUT:
                raise Exhausted(f"could not {what}: it printed more than {MOST_OUTPUT} bytes")
            output[channel].append(data)
    if status is None:
        raise Unavailable(f"could not {what}: the connection ended before the command did")
    return Completed(_code(status, what), b"".join(output[_STDOUT]), b"".join(output[_STDERR]))


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
