"""The server's sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from slipway.app.sockets import listen
from slipway.testing.platform import free_port


async def test_small_answers_are_not_held_back_by_the_kernel() -> None:
    """Nagle's algorithm and a client's delayed acknowledgement cost 40 ms for each answer of two writes."""
    seen: list[Any] = []

    async def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    address = f"127.0.0.1:{free_port()}"
    async with await asyncio.start_server(accepted, sock=listen(address)):
        reader, writer = await asyncio.open_connection(*address.split(":"))
        await reader.read()
        writer.close()
    assert seen == [1]
