"""The HTTP server's connections: uvicorn's, and what a registry needs beyond them.

``http.response.zerocopysend`` (an extension of ASGI) hands a file to the kernel: its bytes go from the page cache to
the socket and are never seen by Python. A client that sends no complete request head, or one without an end, or takes
nothing of an answer, is ended, so that neither connections nor memory can be held for nothing. One that is answered
while it still sends its body has time to read the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import select
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

ZERO_COPY = "http.response.zerocopysend"
HEAD_SECONDS = 30.0  # for the request line and all headers
MOST_HEAD = 64 * 1024  # bytes of them
IDLE_SECONDS = 120.0
LINGER_SECONDS = 5.0  # for the rest of a body that nobody wants, after the last answer of a connection
_PIECE = 16 * 1024 * 1024  # bytes handed over at once, so that many downloads take turns
_TURN_MS = 2  # for how long a thread waits for a client that is as quick as we are
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class HttpProtocol(HttpToolsProtocol):
    """One connection. Set ``idle`` on a subclass to end clients sooner or later than after ``IDLE_SECONDS``."""

    idle = IDLE_SECONDS
    _head_timer: asyncio.TimerHandle | None = None
    _head_end = 0.0  # by then the head of the request has to be there; 0 while none is awaited
    _head_bytes = 0  # of it that have come, after the piece that it began in

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()
        self.app = functools.partial(_lingering, self.app)
        if not is_ssl(transport):  # the kernel cannot encrypt for us
            self.app = functools.partial(_with_files, self.app, self.idle)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_end and self._head_bytes > MOST_HEAD and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._head_came()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) <= MOST_HEAD:
            super().on_headers_complete()
        else:
            app, self.app = self.app, _refuse_head
            super().on_headers_complete()
            self.app = app

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:  # no next request has come
            # uvicorn's own time begins anew with any byte, also of a body that nobody reads any more.
            self._await_head()

    def _await_head(self) -> None:
        """One timer for all requests of the connection: it looks, when it is due, whether it still is."""
        self._head_bytes = 0
        self._head_end = self.loop.time() + HEAD_SECONDS
        if self._head_timer is None:
            self._head_timer = self.loop.call_at(self._head_end, self._head_due)

    def _head_came(self) -> None:
        self._head_end = 0.0

    def _head_due(self) -> None:
        self._head_timer = None
        if self._head_end > self.loop.time():
            self._head_timer = self.loop.call_at(self._head_end, self._head_due)
        elif self._head_end:
            self.transport.close()


async def _lingering(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """An answer that comes before the end of the request's body, as the last of its connection, reaches the client.

    To close a socket that has bytes nobody read is to reset the connection, and the reset overtakes the answer: the
    client would see no more than a broken line. So the whole answer goes out, then what still comes is thrown away for
    a while, and only then is the connection closed.
    """
    cycle: RequestResponseCycle = receive.__self__

    async def sending(message: Any) -> None:
        if (
            cycle.more_body and not cycle.keep_alive and not cycle.chunked_encoding
            and message["type"] == "http.response.body" and not message.get("more_body")
        ):  # fmt: skip
            await send({**message, "more_body": True})
            await _drain(receive)
            message = {"type": "http.response.body"}
        await send(message)

    await app(scope, receive, sending)


async def _drain(receive: Any) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message["more_body"]:
                pass


async def _with_files(app: Any, idle: float, scope: Any, receive: Any, send: Any) -> None:
    scope.setdefault("extensions", {})[ZERO_COPY] = {}
    cycle: RequestResponseCycle = send.__self__

    async def sending(message: Any) -> None:
        if message["type"] == ZERO_COPY:
            await _send_file(cycle, message["file"], message["offset"], message["count"], idle)
        else:
            await send(message)

    await app(scope, receive, sending)


async def _refuse_head(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"connection", b"close"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body"})


async def _send_file(cycle: RequestResponseCycle, file: int, offset: int, count: int, idle: float) -> None:
    """``count`` bytes of ``file`` from ``offset`` on, as the rest of the body or a part of it.

    The transport goes on reading meanwhile, and so notices a client that leaves. Hence the bytes go by a second
    descriptor of the socket: the loop watches a descriptor for one owner only. A client that leaves or stalls is no
    error of the application, which goes on as if it had got everything.
    """
    if cycle.transport.is_closing():  # the client has left already: the socket may be gone
        cycle.disconnected = True
        return
    connection = socket.socket(fileno=os.dup(cycle.transport.get_extra_info("socket").fileno()))
    out = connection.fileno()
    end = offset + count
    try:
        while offset < end and not cycle.disconnected and not cycle.transport.is_closing():
            if cycle.transport.get_write_buffer_size():  # what was written before goes first
                await _writable(out, idle)
                await asyncio.sleep(0)
                continue
            try:
                sent = await _in_thread(_send_piece, out, file, offset, min(_PIECE, end - offset))
            except BlockingIOError:
                await _writable(out, idle)
                continue
            if not sent:
                raise EOFError(f"the file ends {end - offset} bytes early")
            offset += sent
    except (ConnectionError, TimeoutError):
        pass
    finally:
        if offset < end:
            # What is still in the socket's buffer is of no use to anybody: the connection is reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            cycle.transport.abort()
        connection.close()
    if offset < end:
        cycle.disconnected = True
    cycle.expected_content_length -= count


def _send_piece(out: int, file: int, offset: int, count: int) -> int:
    """The bytes that the client took; less than ``count`` when it is slower than we are. Raises ``BlockingIOError``."""
    sent = os.sendfile(out, file, offset, count)
    room = select.poll()
    room.register(out, select.POLLOUT)
    while 0 < sent < count and room.poll(_TURN_MS):
        try:
            more = os.sendfile(out, file, offset + sent, count - sent)
        except BlockingIOError:
            break
        if not more:
            break
        sent += more
    return sent


async def _in_thread(call: Callable[..., int], *arguments: int) -> int:
    """In a thread, since what is not in the page cache is read from the disk.

    Who is cancelled waits for its end nevertheless: the descriptors, once closed, would soon be somebody else's.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def _writable(fd: int, idle: float) -> None:
    """Wait until the socket takes more. Raises ``TimeoutError`` when the peer took nothing for ``idle`` seconds."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(fd, ready.set)
    try:
        before = _unsent(fd)
        while True:
            try:
                async with asyncio.timeout(idle):
                    await ready.wait()
                return
            except TimeoutError:
                # A slow peer may need longer for a third of the socket's buffer, which is when the kernel wakes us.
                left = _unsent(fd)
                if left >= before:
                    raise
                before = left
    finally:
        loop.remove_writer(fd)


def _unsent(fd: int) -> int:
    """Bytes in the socket's buffer that the peer has not acknowledged."""
    count: int = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))[0]
    return count
