"""Pushes, mounts, deletions and collections at the same time: nothing that was acknowledged is ever lost."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import random
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, union

from slipway.registry import Trash
from slipway.state.tables import Manifest, ManifestReference
from slipway.testing.registry import EMPTY, MANIFEST, SECRET, USER, Serving, digest_of, serving

_REPOSITORIES = tuple(f"lib/{letter}" for letter in "abcdefghijkl")
_GRACE = timedelta(seconds=4)


class Pusher:
    """One client after another image; layers are shared with all others, and deleted and pushed again."""

    def __init__(self, server: Serving, number: int, token: str) -> None:
        self.server = server
        self.random = random.Random(number)
        self.token = token
        self.kept: dict[str, str] = {}
        self.mounted = self.pushed = self.deleted = 0

    async def ask(self, method: str, path: str, data: bytes = b"", **headers: str) -> tuple[int, bytes]:
        answer = await self.server(method, path, data, Authorization=f"Bearer {self.token}", **headers)
        assert answer.status < 500, (method, path, answer.status, answer.body)
        return answer.status, answer.body

    async def blob(self, repository: str, data: bytes) -> dict[str, object]:
        """As clients do: look whether it is there, mount it from elsewhere, or send it."""
        digest = digest_of(data)
        status, _ = await self.ask("HEAD", f"/v2/{repository}/blobs/{digest}")
        if status == 404:
            source = self.random.choice(_REPOSITORIES)
            status, _ = await self.ask(
                "POST", f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"
            )
            self.mounted += status == 201
        if status == 202:
            status, _ = await self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
        assert status in (200, 201)
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}

    async def push(self, repository: str, tag: str) -> None:
        layers = [self.random.randrange(30).to_bytes(2, "big") * 500 for _ in range(3)]
        config = {**await self.blob(repository, b"{}"), "mediaType": EMPTY}
        made = [await self.blob(repository, layer) for layer in dict.fromkeys(layers)]
        value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": made}
        value["annotations"] = {"n": str(self.random.randrange(5))}
        data = json.dumps(value).encode()
        status, body = await self.ask("PUT", f"/v2/{repository}/manifests/{tag}", data, Content_Type=MANIFEST)
        assert status == 201, (body, repository, tag)  # each blob was there a moment ago
        self.kept[f"{repository}:{tag}"] = digest_of(data)
        self.pushed += 1

    async def run(self, race: Race, name: str) -> None:
        while race.goes_on():
            repository, tag = self.random.choice(_REPOSITORIES), f"{name}-{self.random.randrange(4)}"
            known = f"{repository}:{tag}"
            if known in self.kept and self.random.random() < 0.4:
                await self.server.registry.delete_manifest(repository, tag, "tester", whole=True, kept=False)
                del self.kept[known]
                self.deleted += 1
            else:
                await self.push(repository, tag)


class Race:
    """Goes on for ``seconds``, and on a slow machine until enough has happened."""

    def __init__(self, seconds: int, pushers: list[Pusher]) -> None:
        self._began = time.monotonic()
        self._seconds = seconds
        self._pushers = pushers
        self.removed = 0

    def counts(self) -> list[int]:
        found = [
            sum(getattr(item, name) for item in self._pushers) for name in ("pushed", "mounted", "deleted")
        ]
        return [*found, self.removed]

    def goes_on(self) -> bool:
        passed = time.monotonic() - self._began
        return passed < self._seconds or (min(self.counts()) < 4 and passed < 120 + self._seconds)


async def collecting(server: Serving, race: Race) -> None:
    loop, trash = asyncio.get_running_loop(), Trash(server.database)
    while race.goes_on():
        roots = functools.partial(server.registry.roots.from_thread, loop)
        found = await asyncio.to_thread(server.registry.blobs.collect, roots, _GRACE)
        race.removed += found.removed
        await trash.empty()


async def whole(server: Serving, reference: str, digest: str) -> None:
    """Everything of the image is there and is what it should be."""
    repository, _, tag = reference.rpartition(":")
    answer = await server("GET", f"/v2/{repository}/manifests/{tag}")
    assert (answer.status, digest_of(answer.body)) == (200, digest), reference
    value = json.loads(answer.body)
    for item in (value["config"], *value["layers"]):
        blob = await server("GET", f"/v2/{repository}/blobs/{item['digest']}")
        assert (blob.status, digest_of(blob.body)) == (200, item["digest"]), (reference, item)


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
async def test_collection_takes_nothing_that_is_being_pushed_mounted_or_used(
    tmp_path: Path, seconds: int
) -> None:
    async with serving(tmp_path) as server:
        await server.access.set_policy("lib", "registry", {"trash_hours": 0})
        scopes = "&".join(f"scope=repository:{name}:pull,push,delete" for name in _REPOSITORIES)
        word = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
        answer = await server(
            "GET", f"/token?service=slipway-registry&{scopes}", Authorization=f"Basic {word}"
        )
        token = json.loads(answer.body)["token"]
        pushers = [Pusher(server, number, token) for number in range(6)]
        race = Race(seconds, pushers)
        async with asyncio.TaskGroup() as group:
            group.create_task(collecting(server, race))
            for number, pusher in enumerate(pushers):
                group.create_task(pusher.run(race, str(number)))
        assert min(race.counts()) >= 4, race.counts()
        for pusher in pushers:
            for reference, digest in pusher.kept.items():
                await whole(server, reference, digest)
        needed = union(
            select(Manifest.digest, Manifest.size), select(ManifestReference.digest, ManifestReference.size)
        ).subquery()
        async with server.database.read() as session:
            counted = await session.scalar(select(func.sum(needed.c.size)))
        assert (await server.access.project("lib")).used == counted
