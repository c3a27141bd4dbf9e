"""An SSH agent for RUN --mount=type=ssh: the caller's own, behind a socket that passes on two requests only.

A step may list the keys and have something signed; it can neither add, remove nor lock keys, nor use extensions
(draft-miller-ssh-agent). Keys never leave the agent. The socket is a file of its own for each step, so that its owner
and mode are what the mount says. Every request has one answer, so an agent is something that is asked: wherever it is.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from slipway.base.ids import new_id
from slipway.errors import SlipwayError

REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
FAILURE = b"\x05"
MAX_MESSAGE = 256 * 1024
_MAX_CONNECTIONS = 64


class Agent(Protocol):
    """Somebody's agent. Messages are those of the protocol without their length: a type, and what belongs to it."""

    async def ask(self, message: bytes) -> bytes:
        """The answer. Raises ``SlipwayError`` when the agent cannot be reached."""
        ...


def is_permitted(message: bytes) -> bool:
    """Whether a step may ask this."""
    return len(message) <= MAX_MESSAGE and message[:1] in (bytes([REQUEST_IDENTITIES]), bytes([SIGN_REQUEST]))


@asynccontextmanager
async def served(agent: Agent, directory: Path, uid: int, gid: int, mode: int) -> AsyncIterator[Path]:
    """A socket below ``directory`` that leads to ``agent``, for the length of the block.

    ``uid`` and ``gid`` are what the file has on disk.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / new_id(12)
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(connections) >= _MAX_CONNECTIONS:  # each costs the server a descriptor
            writer.close()
            return
        connections.add(task)
        try:
            await _relay(agent, reader, writer)
        finally:
            connections.discard(task)

    # A path in a socket's address is short; one below an open directory always fits.
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{fd}/{path.name}")
        os.chmod(path, mode)
        os.chown(path, uid, gid)
        server = await asyncio.start_unix_server(connected, sock=listener)
        try:
            yield path
        finally:
            server.close()
            for task in list(connections):
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


async def _relay(agent: Agent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while True:
            answer = await _answered(agent, await _message(reader))
            writer.write(len(answer).to_bytes(4, "big") + answer)
            await writer.drain()
    writer.close()


async def _answered(agent: Agent, message: bytes) -> bytes:
    if not is_permitted(message):
        return FAILURE
    try:
        return await agent.ask(message)
    except SlipwayError:
        return FAILURE


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One message. Raises ``IncompleteReadError`` at the end and for one that is too long."""
    head = await reader.readexactly(4)
    size = int.from_bytes(head, "big")
    if not 0 < size <= MAX_MESSAGE:
        raise asyncio.IncompleteReadError(head, size)
    return await reader.readexactly(size)
