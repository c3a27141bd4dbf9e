"""The socket of a step's SSH agent."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from slipway.build.ssh_agent import REQUEST_IDENTITIES, served


class Echo:
    async def ask(self, message: bytes) -> bytes:
        return message


async def asked(connection: socket.socket) -> bytes:
    """What a request comes to; nothing from an end that has hung up."""
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(connection, bytes([0, 0, 0, 1, REQUEST_IDENTITIES]))
        return await loop.sock_recv(connection, 5)
    except ConnectionError:
        return b""


async def test_a_step_takes_few_of_the_servers_descriptors(tmp_path: Path) -> None:
    async with served(Echo(), tmp_path / "s", os.getuid(), os.getgid(), 0o600) as path:
        fd = os.open(path.parent, os.O_RDONLY)
        try:
            answers = []
            connections = [socket.socket(socket.AF_UNIX) for _ in range(80)]
            for connection in connections:
                connection.connect(f"/proc/self/fd/{fd}/{path.name}")
                answers.append(await asked(connection))
            assert answers[0] == bytes([0, 0, 0, 1, REQUEST_IDENTITIES])
            assert answers[63] == answers[0]
            assert answers[64:] == [b""] * 16
            connections[0].close()
            while True:  # its place is free as soon as the server has seen that
                with socket.socket(socket.AF_UNIX) as another:
                    another.connect(f"/proc/self/fd/{fd}/{path.name}")
                    if await asked(another):
                        break
        finally:
            os.close(fd)
            for connection in connections:
                connection.close()
