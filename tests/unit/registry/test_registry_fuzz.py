"""Requests of any shape: whatever a client sends, the answer is never a 500 and the server goes on."""

from __future__ import annotations

import asyncio
import json
import random
import string
from pathlib import Path
from urllib.parse import quote

import pytest
from yarl import URL

from slipway.testing.registry import MANIFEST, Serving, digest_of, serving

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO")
_ODD = (
    "", ".", "..", "%2e%2e", "%2F", "%00", "\u00e9", "sha256:", "sha256:" + "0" * 64, "sha256:" + "G" * 64,
    "sha512:" + "0" * 128, "md5:0", "a" * 300, "latest", "_catalog", "_slipway", "blobs", "uploads", "manifests",
    "tags", "list", "referrers", "lib", "lib/x", "lib%2Fx", "..%2f..%2fetc%2fpasswd", "-1", "0", "9" * 30, "NaN",
    "null", "'", '"', "<script>", "robot$lib+x", " ", "\t", ";", "?", "&", "=", "*", "[", "{", "\\", "\U0001f600",
)  # fmt: skip
_WORDS = (
    "n",
    "last",
    "digest",
    "mount",
    "from",
    "artifactType",
    "after",
    "scope",
    "service",
    "ns",
    "tag",
)
_HEADERS = (
    "Range", "Content-Range", "Content-Type", "Authorization", "Accept", "If-None-Match", "Slipway-Move",
    "X-Forwarded-Host", "Transfer-Encoding-X", "Expect-X", "Cookie",
)  # fmt: skip


class Maker:
    """Requests from a seed; about half of the parts are such as clients send."""

    def __init__(self, seed: int, known: list[str], manifest: bytes) -> None:
        self.manifest = manifest
        self.random = random.Random(seed)
        self.known = known

    def word(self) -> str:
        kind = self.random.random()
        if kind < 0.45:
            return self.random.choice(self.known)
        if kind < 0.9:
            return self.random.choice(_ODD)
        return "".join(self.random.choice(string.printable) for _ in range(self.random.randrange(20)))

    def path(self) -> str:
        shapes = (
            "/v2/{}/manifests/{}", "/v2/{}/blobs/{}", "/v2/{}/blobs/uploads/", "/v2/{}/blobs/uploads/{}",
            "/v2/{}/tags/list", "/v2/{}/referrers/{}", "/v2/{}", "/v2/_slipway/{}", "/v2/_catalog", "/token", "/{}",
        )  # fmt: skip
        shape = self.random.choice(shapes)
        parts = [self.word() for _ in range(shape.count("{}"))]
        safe = "/%:" if self.random.random() < 0.7 else ""
        path = shape.format(*(quote(part, safe=safe) for part in parts))
        given = [(self.random.choice(_WORDS), self.word()) for _ in range(self.random.randrange(3))]
        return path + ("?" + "&".join(f"{key}={quote(value)}" for key, value in given) if given else "")

    def headers(self) -> dict[str, str]:
        found = {}
        for _ in range(self.random.randrange(3)):
            text = "".join(char for char in self.word() if 31 < ord(char) < 127)
            name = self.random.choice(_HEADERS)
            found[name] = self.random.choice(
                (text, "bytes=0-5", "bytes=-0", "5-1", "0-0", MANIFEST, "Bearer x.y.z")
            )
        return found

    def body(self) -> bytes:
        kind = self.random.random()
        if kind < 0.3:
            return b""
        if kind < 0.5:
            return self.manifest
        if kind < 0.7:
            return self.random.randbytes(self.random.randrange(200))
        return json.dumps(self.document(4)).encode()

    def document(self, depth: int) -> object:
        """Something like a manifest, with parts in the wrong places."""
        keys = (
            "schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "digest", "size", "urls",
            "annotations", "platform", "artifactType", "grant_type",
        )  # fmt: skip
        kind = self.random.randrange(6)
        if depth == 0 or kind < 2:
            return self.random.choice(
                (2, 1, -1, 10**30, 1.5, None, True, "", MANIFEST, *self.known, "x" * 100)
            )
        if kind < 3:
            return [self.document(depth - 1) for _ in range(self.random.randrange(4))]
        return {self.random.choice(keys): self.document(depth - 1) for _ in range(self.random.randrange(6))}


async def ask(server: Serving, maker: Maker, login: str) -> tuple[int, str]:
    method, path = maker.random.choice(_METHODS), maker.path()
    headers, body = maker.headers(), maker.body()
    if body == maker.manifest:
        headers["Content-Type"] = MANIFEST
    if login:
        headers.setdefault("Authorization", login)
    url = f"http://{server.address[0]}:{server.address[1]}{path}"
    async with server.session.request(
        method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
    ) as answer:
        await answer.read()
        return answer.status, f"{method} {path} {headers}"


@pytest.mark.parametrize("requests", [600, pytest.param(3000, marks=pytest.mark.slow)])
async def test_no_request_is_answered_by_a_500(tmp_path: Path, requests: int) -> None:
    async with serving(tmp_path) as server:
        image = await server.manifest("lib/x", b"layer", tag="latest")
        upload = (await server("POST", "/v2/lib/x/blobs/uploads/")).headers["Docker-Upload-UUID"]
        known = [
            "lib/x",
            "lib/y",
            "latest",
            image["digest"],
            digest_of(b"layer"),
            digest_of(b"{}"),
            upload,
            "lib",
        ]
        scopes = "&".join(f"scope=repository:{name}:pull,push,delete" for name in ("lib/x", "lib/y"))
        answer = await server("GET", f"/token?service=slipway-registry&{scopes}&scope=registry:catalog:*")
        login = f"Bearer {json.loads(answer.body)['token']}"
        manifest = (await server("GET", "/v2/lib/x/manifests/latest")).body
        seen: set[int] = set()
        for first in range(0, requests, 20):
            makers = [Maker(number, known, manifest) for number in range(first, first + 20)]
            found = await asyncio.gather(
                *(ask(server, maker, login if maker.random.random() < 0.8 else "") for maker in makers)
            )
            for status, request in found:
                assert status < 500, (status, request)
                seen.add(status)
        assert {200, 202, 400, 401, 404, 405} <= seen, "the requests are all alike"
        assert (await server("GET", "/v2/lib/x/tags/list")).status in (200, 404)
