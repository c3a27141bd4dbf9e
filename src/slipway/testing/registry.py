"""A registry of a test's own, in the test's process, behind a real socket and without logins."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from argon2 import PasswordHasher

from slipway.access import Access, Vault, passwords
from slipway.api.registry import Pace, create_app
from slipway.app.http import HttpProtocol
from slipway.content import LocalStore
from slipway.errors import Conflict
from slipway.registry import Registry
from slipway.registry.through import PullThrough
from slipway.state import Database

USER, SECRET = "tester", "correct horse"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def code(self) -> str:
        """The first error's code."""
        found: str = json.loads(self.body)["errors"][0]["code"]
        return found


@dataclass(slots=True)
class Serving:
    """``tester`` is an administrator; ``lib`` is a public project."""

    address: tuple[str, int]
    database: Database
    access: Access
    registry: Registry
    session: aiohttp.ClientSession

    async def __call__(self, method: str, path: str, data: bytes = b"", **headers: str) -> Answer:
        """One request with the tester's credentials."""
        word = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
        given = {"Authorization": f"Basic {word}"} | {
            key.replace("_", "-"): text for key, text in headers.items()
        }
        url = f"http://{self.address[0]}:{self.address[1]}{path}"
        async with self.session.request(method, url, data=io.BytesIO(data), headers=given) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def blob(self, repository: str, data: bytes) -> dict[str, Any]:
        """Push a blob; its descriptor."""
        answer = await self("POST", f"/v2/{repository}/blobs/uploads/?digest={digest_of(data)}", data)
        assert answer.status == 201, answer.body
        return {
            "mediaType": "application/octet-stream",
            "digest": digest_of(data),
            "size": len(data),
        }

    async def manifest(self, repository: str, *layers: bytes, tag: str = "", **fields: Any) -> dict[str, Any]:
        """Push an image of these layers, by ``tag`` or its digest; its descriptor."""
        config = {**await self.blob(repository, b"{}"), "mediaType": EMPTY}
        made = [await self.blob(repository, layer) for layer in layers]
        body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": made, **fields}
        data = json.dumps(body).encode()
        name = tag or digest_of(data)
        answer = await self("PUT", f"/v2/{repository}/manifests/{name}", data, Content_Type=MANIFEST)
        assert answer.status == 201, answer.body
        return {"mediaType": MANIFEST, "digest": digest_of(data), "size": len(data)}


@contextlib.asynccontextmanager
async def serving(directory: Path, pace: Pace | None = None, port: int = 0) -> AsyncIterator[Serving]:
    """``port`` 0 is any. A directory that was served before is served again."""
    database = Database.sqlite(directory / "state.db")
    await database.migrate()
    access = Access(database, directory / "keys")
    with contextlib.suppress(Conflict):
        with _quick_passwords():
            await access.create_user(USER, SECRET, is_admin=True)
        await access.create_project("lib", public=True)
    blobs = LocalStore(directory / "content")
    blobs.recover()
    registry = Registry(database, blobs)
    access.on_policy.append(registry.rules.forget)
    through = PullThrough(database, registry, Vault(directory / "keys"))
    with socket.create_server(("127.0.0.1", port)) as listener:
        config = uvicorn.Config(
            create_app(registry, access, through, pace or Pace()), http=HttpProtocol, loop="asyncio", ws="none",
            lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))
        try:
            async with aiohttp.ClientSession() as session:
                yield Serving(listener.getsockname(), database, access, registry, session)
        finally:
            server.should_exit = True
            await task
            await database.dispose()


@contextlib.contextmanager
def _quick_passwords() -> Iterator[None]:
    """A hash that is checked in no time, as most requests of a test check one: its cost is written in it."""
    usual, passwords._HASHER = passwords._HASHER, PasswordHasher(1, 8, 1)
    try:
        yield
    finally:
        passwords._HASHER = usual


def run(directory: str, port: str) -> None:
    """Serve until somebody ends the process: ``python -c 'from … import run; run(…)'``."""

    async def forever() -> None:
        async with serving(Path(directory), port=int(port)):
            await asyncio.Event().wait()

    asyncio.run(forever())
