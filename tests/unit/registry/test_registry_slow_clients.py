"""Clients that push slowly: a pause is fine, a trickle is not, and what arrived is kept."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request

from slipway.api.registry import Pace, inflow
from slipway.api.registry.bodies import pieces
from slipway.app import http
from slipway.testing.registry import SECRET, USER, Serving, digest_of, serving

PACE = Pace(seconds=0.5, least=10_000)


def head(method: str, path: str, length: int) -> bytes:
    word = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {word}\r\n"
        f"Content-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@pytest.fixture
def short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.5)


async def trickle(server: Serving, method: str, path: str) -> tuple[int, dict[str, str]]:
    """A byte every fiftieth of a second for as long as the server bears it: status and the error."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(head(method, path, 100_000))

    async def sending() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(sending())
    try:
        async with asyncio.timeout(60):
            top = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert "\r\nconnection: close\r\n" in top
            length = top.partition("\r\ncontent-length:")[2].partition("\r\n")[0]
            body = await reader.readexactly(int(length))
            with contextlib.suppress(ConnectionResetError):  # which is how it ends for who goes on sending
                assert await reader.read() == b""
    finally:
        task.cancel()
        writer.close()
    return int(top.split()[1]), json.loads(body)["errors"][0]


@pytest.mark.usefixtures("short_farewell")
async def test_a_trickle_is_ended_and_what_came_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path, PACE) as server:
        begun = await server("POST", "/v2/lib/x/blobs/uploads/")
        status, error = await trickle(server, "PATCH", begun.headers["Location"])
        assert (status, error["code"]) == (408, "BLOB_UPLOAD_INVALID")
        state = await server("GET", begun.headers["Location"])
        assert state.status == 204
        assert int(state.headers["Range"].partition("-")[2]) > 0


@pytest.mark.usefixtures("short_farewell")
async def test_a_trickled_manifest_is_ended(tmp_path: Path) -> None:
    async with serving(tmp_path, PACE) as server:
        status, _ = await trickle(server, "PUT", "/v2/lib/x/manifests/1")
        assert status == 408


class Clock:
    """The event loop's time, which passes when a test says so; and what the server has taken of a body."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._now = loop.time()
        self.taken = 0
        monkeypatch.setattr(loop, "time", lambda: self._now)
        monkeypatch.setattr(inflow, "pieces", self._pieces)

    async def _pieces(self, request: Request, pace: Pace) -> AsyncIterator[bytes]:
        async for piece in pieces(request, pace):
            self.taken += len(piece)
            yield piece

    def passes(self, seconds: float) -> None:
        self._now += seconds

    async def until_taken(self, count: int) -> None:
        end = time.monotonic() + 60
        while self.taken < count:
            assert time.monotonic() < end
            await asyncio.sleep(0)


async def test_a_pause_shorter_than_the_time_is_no_trickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(60_000)
    async with serving(tmp_path, PACE) as server:
        begun = await server("POST", "/v2/lib/x/blobs/uploads/")
        path = f"{begun.headers['Location']}?digest={digest_of(data)}"
        reader, writer = await asyncio.open_connection(*server.address)
        with monkeypatch.context() as patch:
            clock = Clock(patch)
            writer.write(head("PUT", path, len(data)))
            # In all several times the time, but never too little within it.
            for first in range(0, len(data), 12_000):
                writer.write(data[first : first + 12_000])
                await clock.until_taken(first + 12_000)
                clock.passes(0.4)
        assert b" 201 " in await reader.readline()
        writer.close()


async def test_time_the_server_takes_is_not_the_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(3 * 1024 * 1024)
    async with serving(tmp_path, Pace(seconds=0.3, least=len(data) * 2)) as server:
        append, late = server.registry.blobs.upload, 0
        with monkeypatch.context() as patch:
            clock = Clock(patch)

            def slow(upload_id: str, *, create: bool = False) -> object:
                upload = append(upload_id, create=create)
                write = upload.append

                def slowly(buffer: bytes) -> None:
                    nonlocal late
                    end = time.monotonic() + 60
                    while clock.taken < len(data) and time.monotonic() < end:  # the client has done its part
                        time.sleep(0.001)
                    clock.passes(0.4)
                    late += 1
                    write(buffer)

                upload.append = slowly  # type: ignore[method-assign, assignment]
                return upload

            patch.setattr(server.registry.blobs, "upload", slow)
            answer = await server("POST", f"/v2/lib/x/blobs/uploads/?digest={digest_of(data)}", data)
        assert (answer.status, late) == (201, 2)
