"""Uploads in pieces, and links of all who push at once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from sqlalchemy import select

from slipway.base.clock import now
from slipway.content import BlobUpload
from slipway.errors import NotFound
from slipway.oci import Digest
from slipway.registry.links import Links
from slipway.state.tables import RepositoryBlob
from slipway.testing.registry import Serving, digest_of, serving

DATA = os.urandom(5_000_000)


async def test_pieces_of_any_size_in_order_and_resumed(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        begun = await server("POST", "/v2/lib/x/blobs/uploads/")
        place, first = begun.headers["Location"], 0
        for size in (1, 100_000, 2_500_000, 1_048_576):
            span = f"{first}-{first + size - 1}"
            answer = await server("PATCH", place, DATA[first : first + size], Content_Range=span)
            assert (answer.status, answer.headers["Range"]) == (202, f"0-{first + size - 1}")
            assert (await server("PATCH", place, b"again", Content_Range="0-4")).status == 416
            first += size
        assert (await server("PUT", f"{place}?digest={digest_of(b'other')}")).code == "DIGEST_INVALID"
        wrong = await server("PUT", f"{place}?digest={digest_of(DATA)}", b"x", Content_Range="7-7")
        assert wrong.status == 416
        status = await server("GET", place)
        assert (status.status, status.headers["Range"]) == (204, f"0-{first - 1}")
        last = await server("PUT", f"{place}?digest={digest_of(DATA)}", DATA[first:])
        assert last.status == 201
        assert (await server("GET", f"/v2/lib/x/blobs/{digest_of(DATA)}")).body == DATA
        assert (await server("GET", place)).code == "BLOB_UPLOAD_UNKNOWN"
        assert server.registry.blobs.uploads() == []


async def test_what_came_before_a_break_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        place = (await server("POST", "/v2/lib/x/blobs/uploads/")).headers["Location"]
        word = "Basic dGVzdGVyOmNvcnJlY3QgaG9yc2U="
        _, writer = await asyncio.open_connection(*server.address)
        head = f"PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: {word}\r\nContent-Length: {len(DATA)}\r\n\r\n"
        writer.write(head.encode() + DATA[:3_333_333])
        await writer.drain()
        for _ in range(1200):
            if server.registry.blobs.uploads() and (await server("GET", place)).headers["Range"] != "0-0":
                break
            await asyncio.sleep(0.05)
        writer.close()
        for _ in range(1200):
            if (await server("GET", place)).headers["Range"] == "0-3333332":
                break
            await asyncio.sleep(0.05)
        answer = await server("PATCH", place, DATA[3_333_333:], Content_Range=f"3333333-{len(DATA) - 1}")
        assert answer.status == 202
        assert (await server("PUT", f"{place}?digest={digest_of(DATA)}")).status == 201


async def pushed(server: Serving, repository: str, data: bytes) -> None:
    """Past HTTP, where each request would check a password."""
    uploads = server.registry.uploads
    name = (await uploads.start(repository)).id

    def ready() -> BlobUpload:
        upload = uploads.open(repository, name, None, None)
        upload.append(data)
        return upload

    assert await uploads.finish(repository, Digest.of(data), ready) == len(data)


async def test_many_at_once_are_all_linked_and_one_that_cannot_be_is_told_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as server:
        await server.access.create_project("gone")
        blobs = [str(number).encode() for number in range(200)]
        await asyncio.gather(
            *(pushed(server, f"lib/r{number % 7}", data) for number, data in enumerate(blobs))
        )
        for number, data in enumerate(blobs):
            assert await server.registry.linked.size(f"lib/r{number % 7}", Digest.of(data)) == len(data)
        await pushed(server, "gone/x", b"here")
        links = server.registry.uploads._links
        row = await links.ensure("gone/x")
        await server.access.delete_project("gone")

        async def stale(_links: Links, _repository: str) -> int:
            return row

        with monkeypatch.context() as patch:  # it is removed between the look and the write
            patch.setattr(Links, "ensure", stale)
            lost = asyncio.create_task(links.add("gone/x", Digest.of(b"here"), 4))
            await asyncio.sleep(0)
        await asyncio.gather(*(links.add("lib/r0", Digest.of(data), 1) for data in (b"a", b"b")))
        with pytest.raises(NotFound):
            await lost
        assert await server.database.look_up(
            "SELECT digest FROM repository_blobs WHERE digest = :digest", digest=str(Digest.of(b"b"))
        )


async def test_a_link_is_read_back_with_its_time(tmp_path: Path) -> None:
    """What is written past the object mapper is as if it had written it."""
    async with serving(tmp_path) as server:
        await server.blob("lib/x", b"data")
        async with server.database.read() as session:
            [row] = list(await session.scalars(select(RepositoryBlob)))
        assert (row.digest, row.size) == (digest_of(b"data"), 4)
        assert abs((now() - row.linked).total_seconds()) < 60
