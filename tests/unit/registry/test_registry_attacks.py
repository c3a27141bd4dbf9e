"""What was done to other registries, done to this one: each attack by its name, and none gets in.

Attacks on bodies and clients that are slow are in ``test_registry_slow_clients``; collection racing pushes is in
``test_registry_races``; requests of any shape are in ``test_registry_fuzz``; who guesses passwords is in
``test_access_attempts``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import random
import string
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from slipway.access import Role
from slipway.distribution import Login, RemoteRegistry
from slipway.errors import SlipwayError
from slipway.oci import Descriptor, Digest, Reference
from slipway.registry.upstream import SECTION, Upstream
from slipway.testing.registry import MANIFEST, Answer, Serving, digest_of, serving

INDEX = "application/vnd.oci.image.index.v1+json"
SECRET = "correct horse"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    """Projects ``mine`` and ``theirs``; ``dev`` is a developer of ``mine``."""
    async with serving(tmp_path) as found:
        await found.access.create_user("dev", SECRET)
        for name in ("mine", "theirs"):
            await found.access.create_project(name)
        await found.access.set_member("mine", "dev", Role.DEVELOPER)
        yield found


def basic(name: str = "dev", secret: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


async def raw(server: Serving, method: str, path: str, data: bytes = b"", **headers: Any) -> Answer:
    """Without a login, the path exactly as it is."""
    url = URL(f"http://127.0.0.1:{server.address[1]}{path}", encoded=True)
    async with server.session.request(method, url, data=data, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def test_cve_2021_41190_a_manifest_that_is_two_things_is_refused(server: Serving) -> None:
    image = await server.manifest("lib/x", b"layer", tag="1")
    good = json.loads((await server("GET", "/v2/lib/x/manifests/1")).body)
    for kind, body in (
        (MANIFEST, {**good, "manifests": [image]}),
        (INDEX, {**good, "mediaType": INDEX, "manifests": [image]}),
        (INDEX, good),
        (MANIFEST, {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}),
    ):
        answer = await server("PUT", "/v2/lib/x/manifests/2", json.dumps(body).encode(), Content_Type=kind)
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID"), body


async def test_cve_2020_15157_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    """What a registry redirects a blob to gets no login; nothing is fetched from the URLs of a foreign layer."""
    seen: list[str | None] = []
    blob = b"content"

    async def elsewhere(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return web.Response(body=blob)

    other = web.ServerRunner(web.Server(elsewhere))
    await other.setup()
    await web.TCPSite(other, "127.0.0.1", 0).start()
    there = f"http://localhost:{other.addresses[0][1]}/x"

    async def registry(request: web.BaseRequest) -> web.StreamResponse:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
        return web.Response(status=307, headers={"Location": there})

    runner = web.ServerRunner(web.Server(registry))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with RemoteRegistry(host, Login("dev", SECRET)) as remote:
            wanted = Descriptor("application/octet-stream", Digest.of(blob), len(blob))
            pieces = [piece async for piece in remote.blob(Reference("demo/x", host, "1"), wanted)]
        assert b"".join(pieces) == blob
        assert seen == [None]
    finally:
        await runner.cleanup()
        await other.cleanup()


async def test_a_foreign_layer_is_stored_and_never_fetched(server: Serving) -> None:
    asked: list[str] = []

    async def bait(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(body=b"evil")

    runner = web.ServerRunner(web.Server(bait))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    layer = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": digest_of(b"evil"),
        "size": 4, "urls": [f"http://127.0.0.1:{runner.addresses[0][1]}/secret"],
    }  # fmt: skip
    try:
        await server.manifest("lib/x", tag="1", layers=[layer])
        assert (await server("GET", f"/v2/lib/x/blobs/{digest_of(b'evil')}")).status == 404
        assert asked == []
    finally:
        await runner.cleanup()


def _segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_cve_2025_24976_tokens_that_bring_their_own_key_or_none_are_refused(
    server: Serving, tmp_path: Path
) -> None:
    await server.manifest("mine/x", b"layer", tag="1")
    good = json.loads((await server("GET", "/token?scope=repository:mine/x:pull")).body)["token"]
    assert (await raw(server, "GET", "/v2/mine/x/manifests/1", Authorization=f"Bearer {good}")).status == 200
    claims = jwt.decode(good, options={"verify_signature": False})
    body = _segment(claims)
    mine = ec.generate_private_key(ec.SECP256R1())
    key = serialization.load_pem_private_key((tmp_path / "keys" / "registry-token.pem").read_bytes(), None)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    numbers = mine.public_key().public_numbers()
    own = {
        "kty": "EC", "crv": "P-256",
        "x": base64.urlsafe_b64encode(numbers.x.to_bytes(32)).decode(),
        "y": base64.urlsafe_b64encode(numbers.y.to_bytes(32)).decode(),
    }  # fmt: skip
    head = _segment({"alg": "HS256", "typ": "JWT"})
    mac = hmac.new(public, f"{head}.{body}".encode(), hashlib.sha256).digest()
    forged = (
        f"{_segment({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        f"{_segment({'alg': 'None'})}.{body}.AAAA",
        f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}",
        jwt.encode(claims, mine, "ES256"),
        jwt.encode(claims, mine, "ES256", headers={"jwk": own}),
        jwt.encode(claims, mine, "ES256", headers={"kid": "../../dev/null", "x5u": "http://127.0.0.1:1/"}),
        f"{good.rpartition('.')[0]}.",
        good[:-8] + "AAAAAAAA",
    )
    for token in forged:
        answer = await raw(server, "GET", "/v2/mine/x/manifests/1", Authorization=f"Bearer {token}")
        assert answer.status == 401, token


async def test_a_token_for_one_scope_opens_no_other(server: Serving) -> None:
    for name in ("mine/x", "mine/y", "theirs/x"):
        await server.manifest(name, b"layer", tag="1")
    asked = (
        "scope=repository:mine/x:pull&scope=repository:theirs/x:pull,push,delete&scope=repository:mine/x:*"
    )
    token = json.loads((await raw(server, "GET", f"/token?{asked}", Authorization=basic())).body)["token"]
    only = json.loads(
        (await raw(server, "GET", "/token?scope=repository:mine/x:pull", Authorization=basic())).body
    )["token"]
    login: dict[str, Any] = {"Authorization": f"Bearer {token}"}
    assert (await raw(server, "GET", "/v2/mine/x/manifests/1", **login)).status == 200
    for method, path in (
        ("GET", "/v2/mine/y/manifests/1"), ("GET", "/v2/theirs/x/manifests/1"), ("GET", "/v2/_catalog"),
        ("POST", "/v2/theirs/x/blobs/uploads/"), ("DELETE", "/v2/theirs/x/manifests/1"),
    ):  # fmt: skip
        assert (await raw(server, method, path, **login)).status == 401, path
    answer = await raw(server, "POST", "/v2/mine/x/blobs/uploads/", Authorization=f"Bearer {only}")
    assert answer.status == 401, "a token for pulls pushes nothing"


async def test_a_token_of_nobody_is_not_that_of_a_user_with_such_a_name(server: Serving) -> None:
    await server.access.create_user("anonymous", SECRET, is_admin=True)
    given = await raw(server, "GET", "/token?scope=repository:lib/x:pull")
    bearer = f"Bearer {json.loads(given.body)['token']}"
    for method, path in (("GET", "_slipway/changes"), ("PUT", "_slipway/projects/evil"), ("GET", "_catalog")):
        assert (await raw(server, method, f"/v2/{path}", Authorization=bearer)).status == 401, path


async def test_cve_2023_2253_a_huge_page_is_clamped(server: Serving) -> None:
    await server.manifest("lib/x", b"layer", tag="1")
    for path in (
        "/v2/_catalog",
        "/v2/lib/x/tags/list",
        f"/v2/lib/x/referrers/{digest_of(b'')}",
        "/v1/search?q=x",
    ):
        sign = "&" if "?" in path else "?"
        for count in ("1000000000", "9" * 4000):
            assert (await server("GET", f"{path}{sign}n={count}")).status == 200, path
        for count in ("-1", "1e9", "0x10", "\u0661"):
            assert (await server("GET", f"{path}{sign}n={quote(count)}")).status == 400, path


@pytest.mark.parametrize(
    "path",
    ["/v2/_catalog", "/v2/_catalog/", "/v2//_catalog", "/v2/./_catalog", "/v2/%5fcatalog", "/v2/x/../_catalog",
     "/v2/_catalog;x", "/v2/_catalog%00", "//v2/_catalog", "/V2/_catalog", "/v2/_slipway/changes"],
)  # fmt: skip
async def test_cve_2020_29662_the_catalog_under_any_spelling_needs_a_login(
    server: Serving, path: str
) -> None:
    await server.manifest("theirs/secret", b"layer", tag="1")
    answer = await raw(server, "GET", path)
    assert answer.status in (400, 401, 404)
    assert b"theirs" not in answer.body


async def test_cve_2026_41888_a_tag_of_somebody_else_is_not_deleted_by_who_may_push(server: Serving) -> None:
    image = await server.manifest("mine/x", b"layer", tag="1")
    for reference in ("1", image["digest"]):
        answer = await raw(server, "DELETE", f"/v2/mine/x/manifests/{reference}", Authorization=basic())
        assert answer.status == 403
    assert (await server("GET", "/v2/mine/x/manifests/1")).status == 200


@pytest.mark.parametrize("name", ["mine/blobs/uploads", "mine/blobs/uploads-of", "mine/manifests/of"])
async def test_what_a_repository_is_called_opens_nothing(server: Serving, name: str) -> None:
    """Names may look like the paths of the protocol: who may push still deletes nothing of somebody else's."""
    image = await server.manifest(name, b"layer", tag="1")
    layer = json.loads((await server("GET", f"/v2/{name}/manifests/1")).body)["layers"][0]["digest"]
    await server.access.create_user("guest", SECRET)
    await server.access.set_member("mine", "guest", Role.GUEST)
    for path in (f"manifests/{image['digest']}", "manifests/1", f"blobs/{layer}"):
        assert (await raw(server, "DELETE", f"/v2/{name}/{path}", Authorization=basic())).status == 403, path
        assert (await raw(server, "GET", f"/v2/{name}/{path}", Authorization=basic("guest"))).status == 200


async def test_cve_2026_35172_a_deleted_blob_is_not_back_when_another_repository_reads_it(
    server: Serving,
) -> None:
    blob = await server.blob("mine/x", b"deleted here")
    await server.blob("theirs/x", b"deleted here")
    path = f"/v2/mine/x/blobs/{blob['digest']}"
    assert (await server("DELETE", path)).status == 202
    for _ in range(2):
        assert (await server("GET", f"/v2/theirs/x/blobs/{blob['digest']}")).status == 200
        assert (await server("GET", path)).status == (await server("HEAD", path)).status == 404


async def test_cve_2026_31801_an_immutable_tag_is_not_overwritten_by_any_way(server: Serving) -> None:
    first = await server.manifest("mine/x", b"first", tag="latest")
    second = await server.manifest("mine/x", b"second")
    await server.access.set_policy("mine", "registry", {"immutable": ["latest"]})
    data = (await server("GET", f"/v2/mine/x/manifests/{second['digest']}")).body
    moved = {"stamp": 1 << 40, "origin": "evil", "versions": {"evil": 1 << 40}}
    header = base64.urlsafe_b64encode(json.dumps(moved).encode()).decode()
    path = "/v2/mine/x/manifests/latest"
    kind: dict[str, Any] = {"Content-Type": MANIFEST, "Authorization": basic()}
    assert (await raw(server, "PUT", path, data, **kind)).status == 409
    assert (await raw(server, "PUT", path, data, **kind, **{"Slipway-Move": header})).status in (401, 403)
    assert (await raw(server, "DELETE", path, Authorization=basic())).status in (403, 409)
    assert (await server("GET", path)).headers["Docker-Content-Digest"] == first["digest"]


async def test_a_mount_tells_nothing_of_what_one_may_not_read(server: Serving) -> None:
    blob = await server.blob("theirs/x", b"secret")
    known, unknown = blob["digest"], digest_of(b"nowhere")
    answers = []
    for digest in (known, unknown):
        path = f"/v2/mine/x/blobs/uploads/?mount={digest}&from=theirs/x"
        answer = await raw(server, "POST", path, Authorization=basic())
        answers.append((answer.status, set(answer.headers) - {"Date"}, answer.body))
        assert (await raw(server, "POST", path)).status == 401, "nobody mounts without a login"
        head = await raw(server, "HEAD", f"/v2/mine/x/blobs/{digest}", Authorization=basic())
        assert head.status == 404
    assert answers[0] == answers[1]
    assert answers[0][0] == 202


async def test_what_is_not_there_and_what_one_may_not_see_look_alike(server: Serving) -> None:
    await server.manifest("theirs/x", b"layer", tag="1")
    for method, rest in (
        ("GET", "manifests/1"),
        ("HEAD", "manifests/1"),
        ("GET", "tags/list"),
        ("POST", "blobs/uploads/"),
    ):
        found = [
            await raw(server, method, f"/v2/{name}/{rest}", Authorization=basic())
            for name in ("theirs/x", "theirs/none", "nothing/none")
        ]
        assert len({answer.status for answer in found}) == 1, (method, rest)


async def test_ghsa_2v5f_5r6w_p67r_a_registry_that_answers_429_opens_nothing(server: Serving) -> None:
    async def busy(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=429, body=b'{"schemaVersion": 2}', headers={"Retry-After": "1"})

    runner = web.ServerRunner(web.Server(busy))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await server.access.create_project("hub")
    value = Upstream.parse({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"})
    await server.access.set_policy("hub", SECTION, value.to_json())
    try:
        for path in ("/v2/hub/x/manifests/1", f"/v2/hub/x/manifests/{digest_of(b'x')}"):
            assert (await server("GET", path)).status == 503
        assert (await raw(server, "GET", "/v2/hub/x/manifests/1")).status == 401
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "part",
    [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "..%5c..",
        "%00",
        "%2e%2e%2f" * 9,
        "a%2f..%2fb",
    ],
)
async def test_no_name_digest_tag_or_upload_leads_out_of_the_store(server: Serving, part: str) -> None:
    sha = quote(f"sha256:../../{part}", safe="%")
    for path in (
        f"/v2/{part}/x/tags/list", f"/v2/lib/{part}/tags/list", f"/v2/lib/x/manifests/{part}", f"/v2/lib/x/blobs/{sha}",
        f"/v2/lib/x/blobs/uploads/{part}", f"/v2/lib/x/manifests/{sha}", f"/v2/lib/x/referrers/{sha}",
    ):  # fmt: skip
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = await raw(server, method, path, b"x", Authorization=basic("tester"))
            assert answer.status in (400, 401, 403, 404, 405), (method, path)
            assert b"root:" not in answer.body


async def test_an_upload_of_one_repository_is_none_of_another(server: Serving) -> None:
    begun = await server("POST", "/v2/theirs/x/blobs/uploads/")
    name = begun.headers["Docker-Upload-UUID"]
    for path in (f"/v2/mine/x/blobs/uploads/{name}", f"/v2/mine/x/blobs/uploads/{name[:24]}{'0' * 32}"):
        for method in ("GET", "PATCH", "DELETE"):
            assert (await raw(server, method, path, b"evil", Authorization=basic())).status == 404
        answer = await raw(
            server, "PUT", f"{path}?digest={digest_of(b'evil')}", b"evil", Authorization=basic()
        )
        assert answer.status == 404
    assert (await server("GET", f"/v2/theirs/x/blobs/uploads/{name}")).status == 204


async def test_manifests_that_are_too_large_or_too_deep_are_refused(server: Serving) -> None:
    large = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "x": "y" * (4 << 20)}).encode()
    answer = await server("PUT", "/v2/lib/x/manifests/1", large, Content_Type=MANIFEST)
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")
    for deep in (b"[" * 500_000, b'{"config":' * 100_000, b'{"layers":[' * 100_000 + b"]}" * 100_000):
        answer = await server("PUT", "/v2/lib/x/manifests/1", deep, Content_Type=MANIFEST)
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert (await server("GET", "/v2/lib/x/manifests/1")).status == 404


async def test_what_sites_tell_is_refused_when_it_cannot_be(server: Serving) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 30_000).decode()
    answer = await server("DELETE", "/v2/lib/x/manifests/1", Slipway_Move=deep)
    assert answer.status == 400
    assert (await server("GET", f"/v2/_slipway/changes?after={10**19 - 1}")).status == 400


async def test_uploads_that_are_left_are_removed_after_a_day(server: Serving, tmp_path: Path) -> None:
    for _ in range(20):
        assert (await server("POST", "/v2/lib/x/blobs/uploads/")).status == 202
    assert len(server.registry.blobs.uploads()) == 20
    assert await server.registry.uploads.expire() == 0
    for path in (tmp_path / "content" / "uploads").iterdir():
        os.utime(path, (1, 1))
    assert await server.registry.uploads.expire() == 20
    assert server.registry.blobs.uploads() == []


class _Scopes:
    """Words of the token protocol, in any order."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self) -> str:
        parts = (
            "repository", "registry", ":", "::", ",", "mine/x", "theirs/x", "catalog", "pull", "push", "*", "(plugin)",
            " ", "", "\0", "é", "../..", "a" * 3000, "%", "host:5000/x",
        )  # fmt: skip
        if self._random.random() < 0.2:
            return "".join(self._random.choice(string.printable) for _ in range(40))
        return "".join(self._random.choice(parts) for _ in range(self._random.randrange(8)))

    def form(self) -> list[tuple[str, str]]:
        names = ("scope", "service", "client_id", "grant_type", "username", "password", "refresh_token", "access_type",
                 "offline_token", "account")  # fmt: skip
        known = ("password", "refresh_token", "dev", "offline", "true", "slipway-registry")
        return [
            (self._random.choice(names), self._random.choice((self.text(), self._random.choice(known))))
            for _ in range(self._random.randrange(8))
        ]


async def test_the_token_endpoint_grants_no_more_than_there_is_whatever_it_is_asked(server: Serving) -> None:
    """Requests of any shape: never a 500, and never a grant of what ``dev`` or nobody may not do."""
    granted = 0
    for seed in range(400):
        scopes = _Scopes(seed)
        fields = "&".join(f"{name}={quote(text)}" for name, text in scopes.form())
        asked = quote(scopes.text() if seed % 2 else "repository:mine/x:pull,push,delete,*")
        if seed % 3 == 0:
            answer = await raw(server, "POST", "/token", f"{fields}&scope={asked}".encode(),
                               **{"Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
        else:
            login: dict[str, Any] = {"Authorization": basic()} if seed % 3 == 1 else {}
            path = f"/token?{fields}&scope={asked}&scope=repository:theirs/x:pull,push,delete"
            answer = await raw(server, "GET", path, **login)
        assert answer.status in (200, 400, 401, 429), (seed, answer.body)
        if answer.status != 200:
            continue
        claims = jwt.decode(json.loads(answer.body)["token"], options={"verify_signature": False})
        for grant in claims["access"]:
            allowed = {"mine/x": {"pull", "push"}, "catalog": {"*", "search"}}.get(grant["name"], set())
            if claims["sub"] != "dev":
                allowed = set()
            assert set(grant["actions"]) <= allowed, grant
            granted += bool(grant["actions"])
    assert granted > 20
    form = b"scope=" + b"x" * 100_000
    assert (await raw(server, "POST", "/token", form)).status == 400


async def test_an_account_that_is_gone_gets_nothing_more(server: Serving) -> None:
    token = json.loads(
        (
            await raw(
                server, "GET", "/token?scope=registry:catalog:*&offline_token=true", Authorization=basic()
            )
        ).body
    )
    await server.access.delete_user("dev")
    login: dict[str, Any] = {"Authorization": f"Bearer {token['token']}"}
    assert (await raw(server, "GET", "/v2/_catalog", **login)).status == 401
    assert (await raw(server, "GET", "/v1/search?q=x", **login)).status == 401
    form = f"grant_type=refresh_token&refresh_token={token['refresh_token']}&scope=repository:mine/x:pull"
    assert (await raw(server, "POST", "/token", form.encode())).status == 401
    with pytest.raises(SlipwayError):
        await server.access.authenticate("dev", SECRET)
