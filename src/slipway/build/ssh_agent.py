"""An SSH agent for RUN --mount=type=ssh: the caller's own, behind a socket that passes on two requests only.

A step may list the keys and have something signed; it can neither add, remove nor lock keys, nor use extensions
(draft-miller-ssh-agent). Keys never leave the agent. The socket is a file of its own for each step, so that its owner
and mode are what the mount says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from slipway.base.ids import new_id
from slipway.errors import Invalid

REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
FAILURE = b"\x00\x00\x00\x01\x05"
_MAX_MESSAGE = 256 * 1024


def check_agent(path: str) -> Path:
    """The socket of an agent. Raises ``Invalid`` for anything else."""
    found = Path(path)
    try:
        is_socket = found.is_absolute() and stat.S_ISSOCK(found.stat().st_mode)
    except OSError as error:
        raise Invalid(
            f"there is no SSH agent at {path}: {error.strerror}", hint="start one: ssh-agent"
        ) from error
    if not is_socket:
        raise Invalid(
            f"{path} is no socket of an SSH agent",
            hint="a key itself is never handed over: load it with ssh-add and give the agent, --ssh default",
        )
    return found


@asynccontextmanager
async def served(agent: Path, directory: Path, uid: int, gid: int, mode: int) -> AsyncIterator[Path]:
    """A socket below ``directory`` that leads to ``agent``, for the length of the block.

    ``uid`` and ``gid`` are what the file has on disk.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / new_id(12)
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
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


async def _relay(agent: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        upstream, to_agent = await asyncio.open_unix_connection(agent)
        try:
            while True:
                request = await _message(reader)
                if request[4:5] not in (bytes([REQUEST_IDENTITIES]), bytes([SIGN_REQUEST])):
                    answer = FAILURE
                else:
                    to_agent.write(request)
                    await to_agent.drain()
                    answer = await _message(upstream)
                writer.write(answer)
                await writer.drain()
        finally:
            to_agent.close()
    writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One message with its length in front. Raises ``IncompleteReadError`` at the end and for one that is too long."""
    head = await reader.readexactly(4)
    size = int.from_bytes(head, "big")
    if not 0 < size <= _MAX_MESSAGE:
        raise asyncio.IncompleteReadError(head, size)
    return head + await reader.readexactly(size)
