"""Connections of the HTTP server, over real sockets: files by the kernel, and clients that hold on for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.responses import JSONResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slipway.api.files import FileSlice
from slipway.app import http
from slipway.app.http import ZERO_COPY, HttpProtocol

DATA = os.urandom(256 * 1024) * 48  # more than the buffers of both ends hold
SECONDS = 60  # for what takes a moment


class Hasty(HttpProtocol):
    idle = 1.0


class App:
    """Answers ``/FIRST/COUNT`` with that part of a file; remembers what the server offered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offered: set[bool] = set()
        self.running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        first, count = map(int, scope["path"].strip("/").split("/"))
        self.offered.add(ZERO_COPY in scope.get("extensions", {}))
        self.running += 1
        try:
            await FileSlice(self._path.open("rb"), first, count, 200, {"X-First": str(first)})(
                scope, receive, send
            )
        finally:
            self.running -= 1

    async def finished(self) -> None:
        while self.running:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(app: Any, protocol: Any = HttpProtocol) -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http=protocol, loop="asyncio", ws="none", lifespan="off", log_config=None, access_log=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            await task


@pytest.fixture
def app(tmp_path: Path) -> App:
    (tmp_path / "file").write_bytes(DATA)
    return App(tmp_path / "file")


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(line for line in head.splitlines() if line.startswith("content-length"))
    return await reader.readexactly(int(length.partition(":")[2]))


def request(first: int, count: int) -> bytes:
    return f"GET /{first}/{count} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.parametrize(("protocol", "offered"), [(HttpProtocol, True), (HttpToolsProtocol, False)])
async def test_parts_of_a_file_arrive_exactly_one_after_another(
    app: App, protocol: Any, offered: bool
) -> None:
    parts = [(0, len(DATA)), (1, 1), (5, 0), (len(DATA) - 7, 7), (1000, 3_000_000)]
    async with serving(app, protocol) as address:
        reader, writer = await asyncio.open_connection(*address)
        for first, count in parts:
            writer.write(request(first, count))
            assert await answer(reader) == DATA[first : first + count]
        writer.write(b"".join(request(*part) for part in parts))  # all at once: in order, nothing mixed
        for first, count in parts:
            assert await answer(reader) == DATA[first : first + count]
        writer.close()
    assert app.offered == {offered}


async def test_a_client_that_leaves_is_no_error(app: App, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "uvicorn"):
        async with serving(app) as address:
            before = set(os.listdir("/proc/self/fd"))
            for _ in range(5):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(request(0, len(DATA)))
                await reader.readexactly(100_000)
                writer.transport.abort()
                await app.finished()
            async with asyncio.timeout(SECONDS):
                while len(os.listdir("/proc/self/fd")) > len(before):
                    await asyncio.sleep(0.01)
    assert "Exception" not in caplog.text
    assert "without completing" not in caplog.text


async def test_a_client_that_left_before_the_file_began_is_no_error(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        await app(scope, receive, send)
        ended.set()

    with caplog.at_level(logging.INFO, "uvicorn"):
        async with serving(late) as address:
            _, writer = await asyncio.open_connection(*address)
            writer.write(request(0, len(DATA)))
            await asked.wait()
            writer.transport.abort()
            await asyncio.wait_for(ended.wait(), SECONDS)
    assert "Exception" not in caplog.text


async def test_whoever_is_cancelled_keeps_the_descriptors_until_the_kernel_is_done_with_them(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be another connection's by then, which would get this one's bytes."""
    began, go_on, seen = threading.Event(), threading.Event(), list[int]()
    sendfile = os.sendfile

    def slow(out: int, file: int, offset: int, count: int) -> int:
        began.set()
        go_on.wait(SECONDS)
        seen.append(os.fstat(file).st_size)
        return sendfile(out, file, offset, count)

    monkeypatch.setattr(os, "sendfile", slow)
    tasks: list[asyncio.Task[None]] = []

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await app(scope, receive, send)

    async with serving(noted) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(request(0, len(DATA)))
        await asyncio.to_thread(began.wait, SECONDS)
        tasks[0].cancel()
        await asyncio.sleep(0.1)
        assert not tasks[0].done()
        go_on.set()
        await asyncio.wait(tasks, timeout=SECONDS)
        writer.close()
    assert seen == [len(DATA)]


async def test_a_file_that_ends_early_ends_the_connection(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request(len(DATA) - 10, 20))
        with pytest.raises(ConnectionError):
            await answer(reader)
        writer.close()
    assert "10 bytes early" in caplog.text


def slow_socket(address: tuple[str, int]) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    found.connect(address)
    found.setblocking(False)
    return found


async def drained(stuck: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(stuck, 1 << 20):
        pass


async def test_who_takes_nothing_is_ended_and_who_takes_slowly_is_not(app: App) -> None:
    loop = asyncio.get_running_loop()
    async with serving(app, Hasty) as address:
        with slow_socket(address) as stuck, slow_socket(address) as slow:
            for each in (stuck, slow):
                await loop.sock_sendall(each, request(0, len(DATA)))
            taken, began = 0, loop.time()
            # The kernel calls its buffer writable again only after several times ``idle`` at this pace.
            while app.running != 1 or loop.time() - began < 4 * Hasty.idle:
                taken += len(await loop.sock_recv(slow, 8192)) or len(DATA) * 2
                await asyncio.sleep(0.02)
            while taken < len(DATA):
                taken += len(await loop.sock_recv(slow, 1 << 20)) or len(DATA) * 2
            assert len(DATA) < taken < len(DATA) + 1000  # the head with it
            with pytest.raises(ConnectionError):
                await drained(stuck)


async def test_memory_is_flat_however_many_read_slowly(app: App) -> None:
    async with serving(app) as address:
        tracemalloc.start()
        try:
            sockets = [slow_socket(address) for _ in range(16)]
            for each in sockets:
                await asyncio.get_running_loop().sock_sendall(each, request(0, len(DATA)))
            async with asyncio.timeout(SECONDS):
                while app.running < 16:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert app.running == 16
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            for each in sockets:
                each.close()
        await app.finished()
    assert peak < 4 * 1024 * 1024


class Refusing:
    """Answers without a look at the body, and has done with the connection."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse({"no": "x" * 1000}, 413, {"Connection": "close"})(scope, receive, send)
        self.done.set()


HUGE = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + bytes(100_000)


async def test_who_is_answered_while_it_sends_gets_the_answer_and_not_a_broken_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 1000)
    refusing = Refusing()
    async with serving(refusing) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(HUGE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in head.lower()
        for _ in range(20):  # more than the buffers hold: it is read
            writer.write(bytes(1_000_000))
            await writer.drain()
        assert len(await reader.readexactly(len('{"no":""}') + 1000)) > 1000
        assert not refusing.done.is_set()
        writer.close()
        await asyncio.wait_for(refusing.done.wait(), SECONDS)


async def test_the_rest_of_a_body_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.2)
    refusing = Refusing()
    async with serving(refusing) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(HUGE)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.wait_for(refusing.done.wait(), SECONDS)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), SECONDS)
        writer.close()


async def test_a_connection_whose_body_has_been_read_is_closed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 1000)
    async with serving(Refusing()) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert (await asyncio.wait_for(reader.read(), SECONDS)).startswith(b"HTTP/1.1 413 ")
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_never_ends_is_not_awaited(
    app: App, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.3)
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        trickle = asyncio.create_task(_trickle(writer)) if sent else None
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        if trickle:
            trickle.cancel()
        writer.close()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("ended", [True, False])
async def test_a_head_that_is_too_large_is_refused(app: App, ended: bool) -> None:
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        text = b"x" * (http.MOST_HEAD + 1)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not ended and sent < 100 << 20 and not writer.is_closing():
                writer.write(b"X-Large: " + text + b"\r\n")
                await writer.drain()
                sent += len(text)
            if ended:
                writer.write(b"X-Large: " + text + b"\r\n\r\n")
            assert b" 431 " in await reader.readline()
            await reader.read()
        writer.close()
        assert sent < 50 << 20
        other, writer = await asyncio.open_connection(*address)
        writer.write(request(0, 10).replace(b"Host: x", b"Host: x\r\nX-Long: " + b"y" * 30_000))
        assert await answer(other) == DATA[:10]
        writer.close()
    assert app.offered == {True}
