"""A project that stands for another registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from slipway.access import AuditFilter, Vault
from slipway.registry.through import SECTION, Upstream
from slipway.testing.registry import SECRET, USER, Serving, serving


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
        await asyncio.sleep(2.1)  # the project's settings are looked at again after two seconds
        assert await digest(here) == image["digest"]
        answer = await here("GET", "/v2/hub/y/manifests/1")
        assert (answer.status, answer.code) == (503, "TOOMANYREQUESTS")


async def test_nothing_is_pushed_into_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as (_there, here):
        answer = await here("POST", "/v2/hub/x/blobs/uploads/")
        assert (answer.status, answer.code) == (403, "DENIED")
