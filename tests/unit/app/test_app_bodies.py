"""Bodies that are read straight from the socket, and heads that are too large, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from slipway.app import http
from slipway.app.bodies import BODY
from slipway.app.http import HttpProtocol

DATA = os.urandom(5_000_000)


class App:
    """Answers with the digest of what came (``/N``: of N bytes); remembers what it was offered and what failed."""

    def __init__(self) -> None:
        self.offered: list[bool] = []
        self.failed: list[BaseException] = []
        self.buffer = 1 << 20

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = scope.get("extensions", {}).get(BODY)
        self.offered.append(body is not None)
        most = int(scope["path"].strip("/") or len(DATA) * 2)
        hasher, count = hashlib.sha256(), 0
        memory = memoryview(bytearray(self.buffer))
        try:
            while body is not None and count < most and (came := await body.readinto(memory)):
                hasher.update(memory[:came])
                count += came
        except BaseException as error:
            self.failed.append(error)
            raise
        while body is None:
            message = await receive()
            hasher.update(message.get("body", b""))
            if not message.get("more_body"):
                break
        text = hasher.hexdigest().encode()
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http=HttpProtocol, loop="asyncio", ws="none", lifespan="off", log_config=None, access_log=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            await task


async def connected(address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*address)


def request(data: bytes, path: str = "/", *lines: str, length: int | None = None) -> bytes:
    more = "".join(f"{line}\r\n" for line in lines)
    size = len(data) if length is None else length
    return f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{more}\r\n".encode() + data


async def answer(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(60):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert " 200 " in head, head
        length = next(line for line in head.splitlines() if line.startswith("content-length"))
        return (await reader.readexactly(int(length.partition(":")[2]))).decode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("buffer", [1 << 20, 10_000])
async def test_bodies_of_any_size_one_after_another_over_one_connection(buffer: int) -> None:
    app = App()
    app.buffer = buffer
    async with serving(app) as address:
        reader, writer = await connected(address)
        for size in (0, 1, 65_535, 65_536, 1 << 20, (1 << 20) + 1, len(DATA), 7, 300_000):
            writer.write(request(DATA[:size]))
            assert await answer(reader) == digest(DATA[:size]), size
        writer.close()
    assert app.offered == [False, *(True for _ in range(8))]
    assert app.failed == []


async def test_in_pieces_with_pauses_and_several_at_once() -> None:
    app, rng = App(), random.Random(1)

    async def client(address: tuple[str, int]) -> None:
        reader, writer = await connected(address)
        for _ in range(3):
            size = rng.choice((3, 100_000, 2_000_000))
            whole = request(DATA[:size])
            while whole:
                count = rng.choice((1, 50, 70_000, 600_000))
                writer.write(whole[:count])
                await writer.drain()
                whole = whole[count:]
                if rng.random() < 0.2:
                    await asyncio.sleep(0.01)
            assert await answer(reader) == digest(DATA[:size])
        writer.close()

    async with serving(app) as address:
        await asyncio.gather(*(client(address) for _ in range(8)))
    assert app.failed == []


async def test_requests_that_come_with_the_body_before_them_are_answered_in_order() -> None:
    app = App()
    async with serving(app) as address:
        reader, writer = await connected(address)
        parts = [DATA[:size] for size in (10, 2_000_000, 0, 70_000, 5)]
        writer.write(b"".join(request(part) for part in parts))
        for part in parts:
            assert await answer(reader) == digest(part)
        writer.close()


async def test_a_client_is_told_to_go_on() -> None:
    async with serving(App()) as address:
        reader, writer = await connected(address)
        writer.write(request(b"", "/", "Expect: 100-continue", length=1_000_000))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(DATA[:1_000_000])
        assert await answer(reader) == digest(DATA[:1_000_000])
        writer.close()


async def test_what_is_left_of_a_body_is_never_taken_for_a_request() -> None:
    """An application that has enough: its answer comes, and the connection ends."""
    app = App()
    smuggled = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n" * 100_000
    async with serving(app) as address:
        reader, writer = await connected(address)
        writer.write(request(smuggled, "/200000"))
        with contextlib.suppress(ConnectionError):
            assert len(await answer(reader)) == 64
            assert await reader.read() == b""
        writer.close()
    assert len(app.offered) == 1


async def test_a_client_that_leaves_is_a_lost_connection_and_leaves_no_descriptor() -> None:
    app = App()
    async with serving(app) as address:
        before = len(os.listdir("/proc/self/fd"))
        for sent in (0, 100, 1_000_000):
            _, writer = await connected(address)
            writer.write(request(DATA[:sent], length=len(DATA)))
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.transport.abort() if sent else writer.close()
        async with asyncio.timeout(30):
            while len(app.failed) < 3 or len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0.02)
    assert {type(error) for error in app.failed} <= {ConnectionResetError}


async def test_a_body_without_a_length_comes_the_usual_way() -> None:
    app = App()
    async with serving(app) as address:
        reader, writer = await connected(address)
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for first in range(0, 1_000_000, 100_000):
            part = DATA[first : first + 100_000]
            writer.write(b"%x\r\n" % len(part) + part + b"\r\n")
        writer.write(b"0\r\n\r\n")
        assert await answer(reader) == digest(DATA[:1_000_000])
        writer.close()
    assert app.offered == [False]


@pytest.mark.parametrize("ended", [True, False])
async def test_a_head_that_is_too_large_is_refused(ended: bool) -> None:
    app = App()
    async with serving(app) as address:
        reader, writer = await connected(address)
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
        other, writer = await connected(address)
        writer.write(request(b"fine", "/", "X-Long: " + "y" * 30_000))
        assert await answer(other) == digest(b"fine")
        writer.close()
    assert app.offered == [True]
