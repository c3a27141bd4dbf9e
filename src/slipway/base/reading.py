"""Reading from a network stream whole, but no more than is good."""

from __future__ import annotations

from typing import Protocol


class Stream(Protocol):
    """An asynchronous stream whose ``read`` gives what is there, and nothing at the end."""

    async def read(self, n: int = -1, /) -> bytes: ...


async def read_up_to(stream: Stream, limit: int) -> bytes:
    """All of it if that is at most ``limit`` bytes; else a little more than ``limit``."""
    data = b""
    while len(data) <= limit and (more := await stream.read(limit + 1 - len(data))):
        data += more
    return data
