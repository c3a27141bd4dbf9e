"""Clients that push slowly: a pause is fine, a trickle is not, and what arrived is kept."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
from pathlib import Path

from slipway.api.registry import Pace
from slipway.testing.registry import SECRET, USER, Serving, digest_of, serving

PACE = Pace(seconds=0.5, least=10_000)


def head(method: str, path: str, length: int) -> bytes:
    word = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {word}\r\n"
        f"Content-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def trickle(server: Serving, method: str, path: str) -> tuple[int, dict[str, str]]:
    """A byte every fiftieth of a second for as long as the server bears it: status and the error."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(server.address) as client:
        client.setblocking(False)
        await loop.sock_sendall(client, head(method, path, 100_000))

        async def sending() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await loop.sock_sendall(client, b"x")
                    await asyncio.sleep(0.02)

        task = asyncio.create_task(sending())
        answer = b""
        try:
            async with asyncio.timeout(60):
                with contextlib.suppress(
                    ConnectionError
                ):  # what it sent meanwhile resets the connection at its end
                    while data := await loop.sock_recv(client, 65536):
                        answer += data
        finally:
            task.cancel()
            await asyncio.wait([task])
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)["errors"][0]


async def test_a_trickle_is_ended_and_what_came_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path, PACE) as server:
        begun = await server("POST", "/v2/lib/x/blobs/uploads/")
        status, error = await trickle(server, "PATCH", begun.headers["Location"])
        assert (status, error["code"]) == (408, "BLOB_UPLOAD_INVALID")
        state = await server("GET", begun.headers["Location"])
        assert state.status == 204
        assert int(state.headers["Range"].partition("-")[2]) > 0


async def test_a_trickled_manifest_is_ended(tmp_path: Path) -> None:
    async with serving(tmp_path, PACE) as server:
        status, _ = await trickle(server, "PUT", "/v2/lib/x/manifests/1")
        assert status == 408


async def test_a_pause_shorter_than_the_time_is_no_trickle(tmp_path: Path) -> None:
    data = os.urandom(60_000)
    async with serving(tmp_path, PACE) as server:
        begun = await server("POST", "/v2/lib/x/blobs/uploads/")
        path = f"{begun.headers['Location']}?digest={digest_of(data)}"
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(head("PUT", path, len(data)))
        for first in range(0, len(data), 12_000):
            await asyncio.sleep(0.2)  # a second in all: twice the time, but never too little within it
            writer.write(data[first : first + 12_000])
        assert b" 201 " in await reader.readline()
        writer.close()


async def test_time_the_server_takes_is_not_the_clients(tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024)
    async with serving(tmp_path, Pace(seconds=0.3, least=len(data) * 2)) as server:
        append = server.registry.blobs.upload

        def slow(upload_id: str, *, create: bool = False) -> object:
            upload = append(upload_id, create=create)
            write = upload.append

            def late(buffer: bytes) -> None:
                asyncio.run(asyncio.sleep(0.4))
                write(buffer)

            upload.append = late  # type: ignore[method-assign, assignment]
            return upload

        server.registry.blobs.upload = slow  # type: ignore[method-assign, assignment]
        answer = await server("POST", f"/v2/lib/x/blobs/uploads/?digest={digest_of(data)}", data)
        assert answer.status == 201
