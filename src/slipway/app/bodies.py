"""The body of a request, from the socket straight into memory of the application's.

uvicorn takes what comes in pieces of at most 256 KiB, on the loop, and copies each several times. A body whose length
is known can be read by a thread instead, in as few calls as the client's pace allows, into a buffer that is used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import httptools

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

BODY = "slipway.request.body"
TURN_MS = 2  # for how long a thread waits for a client that is as quick as we are
T = TypeVar("T")


def body_length(scope: Any) -> int | None:
    """Of a request that says it beforehand; the parser has seen to it that it is a number and the only one."""
    length = None
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value)
        elif name in (b"transfer-encoding", b"upgrade"):
            return None
    return length


class DirectBody:
    """What an application finds as the extension ``slipway.request.body``, to be used instead of ``receive``.

    From the first ``readinto`` on the connection's parser sees nothing more. When the body has ended it begins anew,
    with the next request; if the application leaves before that, the connection ends.
    """

    def __init__(self, protocol: HttpToolsProtocol, cycle: RequestResponseCycle, length: int) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._length = length
        self._buffered = memoryview(b"")
        self._coming = -1  # bytes that are still to be read from the socket; -1 before the beginning
        self._keep_alive = False
        self._fd = -1

    @property
    def length(self) -> int:
        return self._length

    @property
    def begun(self) -> bool:
        return self._coming >= 0

    async def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` as far as the client is quick; how many bytes, 0 at the end. ``ConnectionError``: it left."""
        if self._coming < 0:
            self._begin()
        if self._buffered:
            count = min(len(buffer), len(self._buffered))
            buffer[:count] = self._buffered[:count]
            self._buffered = self._buffered[count:]
            return count
        if not self._coming:
            return 0
        count = await self._received(buffer[: self._coming])
        self._coming -= count
        if not self._coming:
            self._end()
        return count

    def _begin(self) -> None:
        cycle = self._cycle
        cycle.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        self._buffered = memoryview(bytes(cycle.body))
        cycle.body = bytearray()
        # The application asks before anybody else has taken any of it: what has come is all in the buffer.
        self._coming = self._length - len(self._buffered) if cycle.more_body else 0
        if self._coming:
            self._keep_alive, cycle.keep_alive = cycle.keep_alive, False
            self._fd = os.dup(cycle.transport.get_extra_info("socket").fileno())

    def _end(self) -> None:
        """The next thing that comes is another request's head."""
        self.close()
        if self._cycle.disconnected:  # the connection was lost meanwhile, and its parser with it
            return
        self._cycle.keep_alive = self._keep_alive
        self._protocol.on_message_complete()
        self._protocol.parser = new_parser(self._protocol)

    async def _received(self, buffer: memoryview) -> int:
        while True:
            if self._cycle.disconnected or self._cycle.transport.is_closing():
                raise ConnectionResetError("the client has left")
            try:
                count = await in_thread(lambda: _receive(self._fd, buffer))
            except BlockingIOError:
                await self._readable()
                continue
            if not count:
                self._cycle.disconnected = True
                self._cycle.transport.abort()
                raise ConnectionResetError("the client has left")
            return count

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)

    def close(self) -> None:
        """No thread is at the descriptor: whoever reads has been waited for. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def new_parser(protocol: HttpToolsProtocol) -> Any:
    parser = httptools.HttpRequestParser(protocol)
    with contextlib.suppress(AttributeError):  # as uvicorn makes them
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _receive(fd: int, buffer: memoryview) -> int:
    """The bytes that the client sent; fewer than fit when it is slower than we are. Raises ``BlockingIOError``."""
    got = os.readv(fd, [buffer])
    there = select.poll()
    there.register(fd, select.POLLIN)
    while 0 < got < len(buffer) and there.poll(TURN_MS):
        try:
            more = os.readv(fd, [buffer[got:]])
        except (BlockingIOError, ConnectionError):
            break  # what is wrong, the next call finds
        if not more:
            break
        got += more
    return got


async def in_thread(call: Callable[[], T]) -> T:
    """In a thread, whose end also somebody who is cancelled waits for: its descriptors and its memory would soon be
    somebody else's."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
