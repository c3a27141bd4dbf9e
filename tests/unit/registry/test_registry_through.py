"""A project that stands for another registry."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.client import _RequestContextManager

from slipway.access import AuditFilter, Vault
from slipway.distribution import RemoteRegistry
from slipway.oci import Digest
from slipway.registry.upstream import SECTION, Upstream
from slipway.testing.registry import MANIFEST, SECRET, USER, Serving, digest_of, serving


@asynccontextmanager
async def pair(tmp_path: Path, **options: object) -> AsyncIterator[tuple[Serving, Serving]]:
    """The other registry, and ours with a project ``hub`` that stands for its project ``lib``."""
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    async with serving(tmp_path / "there") as there, serving(tmp_path / "here") as here:
        await here.access.create_project("hub")
        secret = Vault(tmp_path / "here" / "keys").seal(SECRET)
        url = f"http://{there.address[0]}:{there.address[1]}"
        value = Upstream.parse({"url": url, "username": USER, "secret": secret, "prefix": "lib", **options})
        await here.access.set_policy("hub", SECTION, value.to_json())
        yield there, here


async def digest(server: Serving, name: str = "hub/x", tag: str = "1") -> str:
    answer = await server("GET", f"/v2/{name}/manifests/{tag}")
    return str(answer.headers.get("Docker-Content-Digest", "")) if answer.status == 200 else ""


async def test_what_is_asked_for_is_fetched_once_and_kept(tmp_path: Path) -> None:
    async with pair(tmp_path) as (there, here):
        image = await there.manifest("lib/x", b"layer" * 1000, tag="1")
        answer = await here("GET", "/v2/hub/x/manifests/1")
        assert answer.headers["Docker-Content-Digest"] == image["digest"]
        layer = json.loads(answer.body)["layers"][0]
        path = f"/v2/hub/x/blobs/{layer['digest']}"
        head = await here("HEAD", path)
        assert (head.status, int(head.headers["Content-Length"])) == (200, 5000)
        answers = await asyncio.gather(*(here("GET", path) for _ in range(8)))
        assert {answer.body for answer in answers} == {b"layer" * 1000}
        pulls = [
            event for event in await there.access.audit_log.events(AuditFilter(), 100) if not event.allowed
        ]
        assert pulls == []
        other = await there.blob("lib/x", b"no manifest names it")
        assert (await here("GET", f"/v2/hub/x/blobs/{other['digest']}")).status == 404
        assert (await here("GET", "/v2/hub/x/manifests/none")).status == 404


async def test_a_tag_is_asked_for_again_when_it_is_no_longer_fresh(tmp_path: Path) -> None:
    async with pair(tmp_path, fresh=0) as (there, here):
        first = (await there.manifest("lib/x", b"one", tag="1"))["digest"]
        assert await digest(here) == first
        second = (await there.manifest("lib/x", b"two", tag="1"))["digest"]
        assert await digest(here) == second
    for name in ("there", "here"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    async with pair(tmp_path, fresh=300) as (there, here):
        first = (await there.manifest("lib/x", b"one", tag="1"))["digest"]
        assert await digest(here) == first
        await there.manifest("lib/x", b"two", tag="1")
        assert await digest(here) == first


async def test_what_is_here_is_served_when_the_other_does_not_answer(tmp_path: Path) -> None:
    async with pair(tmp_path, fresh=0) as (there, here):
        image = await there.manifest("lib/x", b"one", tag="1")
        assert await digest(here) == image["digest"]
        value = await here.access.policy("hub", SECTION)
        await here.access.set_policy("hub", SECTION, {**value, "url": "http://127.0.0.1:9"})
        assert await digest(here) == image["digest"]
        answer = await here("GET", "/v2/hub/y/manifests/1")
        assert (answer.status, answer.code) == (503, "TOOMANYREQUESTS")


async def test_what_a_manifest_names_there_opens_no_blob_of_another_project_here(tmp_path: Path) -> None:
    """A foreign layer need not be where its manifest is: its digest may be that of anything."""
    async with pair(tmp_path) as (there, here):
        await here.access.create_project("private")
        secret = await here.blob("private/x", b"secret")
        layer = {**secret, "urls": ["https://example.org/layer"]}
        await there.manifest("lib/x", tag="1", layers=[layer])
        assert await digest(here)
        for _ in range(2):
            assert (await here("GET", f"/v2/hub/x/blobs/{secret['digest']}")).status == 404


async def test_what_is_here_already_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as (there, here):
        await there.manifest("lib/x", b"layer", tag="1")
        await here.blob("lib/x", b"layer")
        assert await digest(here)
        monkeypatch.setattr(RemoteRegistry, "blob", None)
        assert (await here("GET", f"/v2/hub/x/blobs/{digest_of(b'layer')}")).body == b"layer"


async def test_nothing_is_pushed_into_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as (_there, here):
        answer = await here("POST", "/v2/hub/x/blobs/uploads/")
        assert (answer.status, answer.code) == (403, "DENIED")


@dataclass(slots=True)
class Slowly:
    """Another registry with one image whose layer comes when the test says so, and may be another than it says."""

    layer: bytes
    sent: bytes
    port: int = 0
    asked: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def manifest(self) -> bytes:
        blobs = [
            {"mediaType": "application/octet-stream", "digest": digest_of(data), "size": len(data)}
            for data in (b"{}", self.layer)
        ]
        body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": blobs[0], "layers": blobs[1:]}
        return json.dumps(body).encode()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if "/manifests/" in request.path:
            return web.Response(body=self.manifest, content_type=MANIFEST)
        if digest_of(self.layer) not in request.path:
            return web.Response(status=404)
        self.asked += 1
        response = web.StreamResponse(headers={"Content-Length": str(len(self.sent))})
        await response.prepare(request)
        half = len(self.sent) // 2
        await response.write(self.sent[:half])
        await self.go_on.wait()
        await response.write(self.sent[half:])
        return response


@asynccontextmanager
async def slowly(
    tmp_path: Path, layer: bytes, sent: bytes | None = None
) -> AsyncIterator[tuple[Slowly, Serving]]:
    """A slow registry, and ours with a project ``hub`` that stands for it."""
    other = Slowly(layer, layer if sent is None else sent)
    server = web.Server(other.answer)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    other.port = runner.addresses[0][1]
    try:
        async with serving(tmp_path) as here:
            await here.access.create_project("hub")
            value = Upstream.parse({"url": f"http://127.0.0.1:{other.port}"})
            await here.access.set_policy("hub", SECTION, value.to_json())
            assert (await here("GET", "/v2/hub/x/manifests/1")).status == 200
            yield other, here
            other.go_on.set()
    finally:
        await runner.cleanup()


def stream(here: Serving, data: bytes, **headers: str) -> _RequestContextManager:
    login = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    url = f"http://127.0.0.1:{here.address[1]}/v2/hub/x/blobs/{digest_of(data)}"
    return here.session.get(url, headers={"Authorization": f"Basic {login}", **headers})


LAYER = os.urandom(3_000_000)


async def test_a_blob_goes_out_while_it_comes_in_to_all_who_want_it(tmp_path: Path) -> None:
    async with slowly(tmp_path, LAYER) as (other, here):
        async with stream(here, LAYER) as one, stream(here, LAYER) as two:
            assert (one.status, one.headers["Content-Length"]) == (200, str(len(LAYER)))
            for answer in (one, two):  # half of it is here, and the other half has not been sent
                assert await answer.content.readexactly(1_500_000) == LAYER[:1_500_000]
            ranged = asyncio.create_task(_read(stream(here, LAYER, Range="bytes=1000000-2000000")))
            await asyncio.sleep(0.1)
            assert not ranged.done()
            other.go_on.set()
            assert await one.content.read() == LAYER[1_500_000:]
            assert await two.content.read() == LAYER[1_500_000:]
        assert await ranged == (206, LAYER[1_000_000:2_000_001])
        assert other.asked == 1
        assert (await here("GET", f"/v2/hub/x/blobs/{digest_of(LAYER)}")).body == LAYER
        assert other.asked == 1, "it is here now"


async def _read(request: _RequestContextManager) -> tuple[int, bytes]:
    async with request as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("wrong", ["another", "short", "long"])
async def test_what_is_not_what_it_should_be_ends_the_connection_and_is_not_kept(
    tmp_path: Path, wrong: str
) -> None:
    sent = {"another": LAYER[:-1] + b"!", "short": LAYER[:-10], "long": LAYER + b"more"}[wrong]
    async with slowly(tmp_path, LAYER, sent) as (other, here):
        async with stream(here, LAYER) as answer:
            assert answer.status == 200
            await answer.content.readexactly(1_000_000)
            ranged = asyncio.create_task(_read(stream(here, LAYER, Range="bytes=10-20")))
            await asyncio.sleep(0.1)
            other.go_on.set()
            with pytest.raises(ClientPayloadError):
                await answer.content.read()
        with pytest.raises(ClientPayloadError):
            await ranged
        assert here.registry.blobs.size(Digest.parse(digest_of(LAYER))) is None
        assert list((tmp_path / "content" / "ingest").iterdir()) == []
        other.sent = LAYER  # it was a passing trouble
        assert (await here("GET", f"/v2/hub/x/blobs/{digest_of(LAYER)}")).body == LAYER


async def test_a_client_that_leaves_ends_no_fetch(tmp_path: Path) -> None:
    async with slowly(tmp_path, LAYER) as (other, here):
        async with stream(here, LAYER) as answer:
            await answer.content.readexactly(1000)
            answer.close()
        other.go_on.set()
        for _ in range(1200):
            if here.registry.blobs.size(Digest.parse(digest_of(LAYER))) is not None:
                break
            await asyncio.sleep(0.05)
        assert (await here("GET", f"/v2/hub/x/blobs/{digest_of(LAYER)}")).body == LAYER
        assert other.asked == 1


async def test_a_range_outside_is_refused_and_what_the_other_does_not_have_is_not_found(
    tmp_path: Path,
) -> None:
    async with slowly(tmp_path, LAYER) as (other, here):
        async with stream(here, LAYER, Range=f"bytes={len(LAYER)}-") as answer:
            assert answer.status == 416
        config = await here("GET", f"/v2/hub/x/blobs/{digest_of(b'{}')}")
        assert (config.status, config.code) == (404, "BLOB_UNKNOWN")
        other.go_on.set()
