"""The SSH agents of this machine, asked by the steps of a build elsewhere.

A step may list keys and have something signed (draft-miller-ssh-agent); this side lets nothing else through either, no
agent that was not named, and, where keys were named, no other key.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.errors import Invalid, SlipwayError

if TYPE_CHECKING:
    from slipway.client.client import Client

Events = Iterator[dict[str, Any]]
ASK = "ssh.ask"
FAILURE = b"\x05"
_LIST, _LISTED, _SIGN = 11, 12, 13
_MAX_MESSAGE = 256 * 1024
_AT_ONCE = 4
_SECONDS = 115.0
_MAX_KEY_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class SshAgent:
    """An agent at a socket. ``keys`` are the public keys, as the protocol has them, that may be used; ``None``: all."""

    socket: str
    keys: frozenset[bytes] | None = None

    @classmethod
    def named(cls, places: Sequence[str], default: str) -> SshAgent:
        """From sockets and public key files: one socket at most, else ``default``. Raises ``Invalid``."""
        sockets, keys = [], []
        for place in places:
            if Path(place).is_socket():
                sockets.append(place)
            else:
                keys.append(_public_key(place))
        if len(sockets) > 1:
            raise Invalid(f"two sockets for one SSH agent: {' and '.join(sockets)}")
        path = sockets[0] if sockets else default
        if not path or not Path(path).is_socket():
            raise Invalid(
                f"there is no SSH agent at {path!r}" if path else "there is no SSH agent in this shell",
                hint="start one (eval $(ssh-agent); ssh-add) or write --ssh ID=SOCKET",
            )
        return cls(os.path.abspath(path), frozenset(keys) if keys else None)

    def answer(self, message: bytes) -> bytes:
        """What the agent says, or that it failed: also for what is not to be asked."""
        if message[:1] == bytes([_SIGN]):
            if self.keys is not None and _string(message, 1) not in self.keys:
                return FAILURE
        elif message != bytes([_LIST]):
            return FAILURE
        try:
            said = self._ask(message)
        except OSError:
            return FAILURE
        if message[0] == _LIST and self.keys is not None:
            return _only(said, self.keys)
        return said

    def _ask(self, message: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(_SECONDS)
            agent.connect(self.socket)
            agent.sendall(struct.pack(">I", len(message)) + message)
            (size,) = struct.unpack(">I", _exactly(agent, 4))
            if not 0 < size <= _MAX_MESSAGE:
                raise OSError("an answer of a size that none has")
            return _exactly(agent, size)


def answering(client: Client, events: Events, agents: Mapping[str, SshAgent]) -> Events:
    """``events`` without those that ask one of ``agents``, which are answered meanwhile."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        for event in events:
            if event["event"] == ASK:
                pool.submit(_answer, client, agents, event)
            else:
                yield event
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _answer(client: Client, agents: Mapping[str, SshAgent], event: Mapping[str, Any]) -> None:
    agent = agents.get(str(event["agent"]))
    said = agent.answer(base64.b64decode(event["message"])) if agent else FAILURE
    with suppress(SlipwayError):  # the build may be over
        client.answer_agent(str(event["session"]), int(event["number"]), base64.b64encode(said).decode())


def _public_key(path: str) -> bytes:
    """Raises ``Invalid`` for a file that is no public key, also for a private one."""
    try:
        with open(path, "rb") as handle:
            text = handle.read(_MAX_KEY_FILE)
    except OSError as error:
        raise Invalid(f"--ssh: {path} cannot be read: {error.strerror}") from error
    words = text.split()
    try:
        if len(words) < 2 or b"PRIVATE" in text:
            raise ValueError
        found = base64.b64decode(words[1], validate=True)
        if _string(found, 0) != words[0]:
            raise ValueError
    except ValueError as error:
        raise Invalid(
            f"--ssh: {path} is neither an agent's socket nor a public key",
            hint="a key itself is never handed over: load it with ssh-add, and name its public half, KEY.pub",
        ) from error
    return found


def _string(data: bytes, at: int) -> bytes:
    """The length-framed bytes at this place; what is cut off is shorter."""
    size = int.from_bytes(data[at : at + 4], "big")
    return data[at + 4 : at + 4 + size]


def _only(said: bytes, keys: frozenset[bytes]) -> bytes:
    """A list of identities with no others than ``keys``."""
    if said[:1] != bytes([_LISTED]):
        return FAILURE
    found, at = [], 5
    for _ in range(min(int.from_bytes(said[1:5], "big"), _MAX_MESSAGE)):
        if at >= len(said):
            break
        key = _string(said, at)
        comment = _string(said, at + 4 + len(key))
        at += 8 + len(key) + len(comment)
        if key in keys:
            found.append(struct.pack(">I", len(key)) + key + struct.pack(">I", len(comment)) + comment)
    return bytes([_LISTED]) + struct.pack(">I", len(found)) + b"".join(found)


def _exactly(agent: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        piece = agent.recv(size - len(found))
        if not piece:
            raise OSError("the agent hung up")
        found += piece
    return bytes(found)
