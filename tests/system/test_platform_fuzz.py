"""The platform API from its own description: whatever fits a route or does not, nothing is a 500 and memory stays."""

from __future__ import annotations

import asyncio
import json
import os
import random
import string
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from slipway.testing.memory import proportional
from slipway.testing.platform import Running

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(600), pytest.mark.slow,
]  # fmt: skip
SECRET = "correct horse"
REQUESTS = 4000
GROWTH_MIB = 100
# Bodies of these start what takes minutes and is tested elsewhere: a distribution's packages.
LEFT_OUT = {("post", f"/api/v1/{path}") for path in ("images/base", "builders/image", "platform/image")}
KNOWN = ("demo", "library", "dev", "app", "web", "demo/app:1", "x", "library/debian:bookworm")
_ODD: tuple[Any, ...] = (
    "", ".", "..", "../../etc/passwd", "/etc/shadow", "a" * 5000, "\0", "\ud800", "é", "\U0001f600", "%s", "{}",
    "' OR 1=1 --", "<script>", "robot$demo+x", "demo/app:1", "demo/app@sha256:" + "0" * 64, "sha256:" + "G" * 64,
    "2999-01-01", "0000-00-00", "NaN", "1e999", "-1", "0", str(10**30), 0, -1, 10**30, 1.5, 1e308, True, None, [], {},
    [[]], {"": None}, ["x"] * 2000, "http://127.0.0.1:1", "http://169.254.169.254/", "file:///etc/passwd", "ssh://x",
    "*", "[", "(?", "linux/amd64", "high", "admin", "push",
)  # fmt: skip


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running.make(tmp_path_factory.mktemp("fuzzed"))
    running.seed_base()
    running.up()
    for words in (("fuzzer", "--admin"), ("dev",)):
        create = ("user", "create", *words, "--password-stdin")
        running.start_command(*create).communicate(f"{SECRET}\n".encode())
    running.command("project", "add", "demo", "dev", "--role", "admin")
    yield running
    running.down()


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    parameters: list[dict[str, Any]]
    body: dict[str, Any] | None


def routes(schema: dict[str, Any]) -> list[Route]:
    found = []
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            if (method, path) in LEFT_OUT:
                continue
            content = about.get("requestBody", {}).get("content", {}).get("application/json")
            found.append(
                Route(method, path, about.get("parameters", []), content["schema"] if content else None)
            )
    return found


class Maker:
    """Values of a schema, mostly; the rest are of none."""

    def __init__(self, seed: int, schema: dict[str, Any]) -> None:
        self.random = random.Random(seed)
        self._schema = schema

    def value(self, schema: dict[str, Any], depth: int = 5) -> Any:
        chance = self.random.random()
        if chance < 0.15 or depth == 0:
            return self.random.choice(_ODD)
        if reference := schema.get("$ref"):
            return self.value(self._schema["components"]["schemas"][reference.rpartition("/")[2]], depth)
        if some := schema.get("anyOf") or schema.get("oneOf"):
            return self.value(self.random.choice(some), depth)
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        return self._of_type(schema, depth)

    def _of_type(self, schema: dict[str, Any], depth: int) -> Any:
        match schema.get("type"):
            case "object":
                properties = schema.get("properties") or {}
                needed = schema.get("required") or ()
                return {
                    name: self.value(item, depth - 1)
                    for name, item in properties.items()
                    if name in needed or self.random.random() < 0.6
                }
            case "array":
                return [
                    self.value(schema.get("items", {}), depth - 1) for _ in range(self.random.randrange(4))
                ]
            case "integer":
                return self.random.choice((0, 1, 2, 5, 100, -1, 2**31, 2**63, 2**70))
            case "number":
                return self.random.choice((0, 0.5, 1, 30, -1, 1e18, 1e308))
            case "boolean":
                return self.random.random() < 0.5
            case "string":
                return self.text()
            case _:
                return self.random.choice(_ODD)

    def text(self) -> str:
        chance = self.random.random()
        if chance < 0.6:
            return self.random.choice(
                ("demo", "library", "dev", "app", "web", "demo/app:1", "x", "library/debian:bookworm")
            )
        if chance < 0.9:
            return str(self.random.choice(_ODD))
        return "".join(self.random.choice(string.printable) for _ in range(self.random.randrange(30)))

    def request(self, route: Route) -> tuple[str, bytes | None, dict[str, str]]:
        path, query = route.path, []
        for item in route.parameters:
            value = self.value(item.get("schema", {}))
            text = value if isinstance(value, str) else json.dumps(value)
            quoted = quote(text.encode("utf-8", "surrogatepass"), safe="")[:6000]
            if item["in"] == "path":
                path = path.replace("{" + item["name"] + "}", quoted)
            elif item["in"] == "query" and (item.get("required") or self.random.random() < 0.5):
                query.append(f"{quote(item['name'])}={quoted}")
        body, headers = None, {}
        if route.body is not None:
            body = json.dumps(self.value(route.body)).encode()
            headers["Content-Type"] = "application/json"
            if self.random.random() < 0.1:
                body = self.random.choice(
                    (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 10_000, body[:-1])
                )
            if self.random.random() < 0.05:
                headers["Content-Type"] = self.random.choice(
                    ("text/plain", "multipart/form-data", "application/xml")
                )
        elif self.random.random() < 0.3:
            body = self.random.randbytes(50)
        return path + ("?" + "&".join(query) if query else ""), body, headers


def token(platform: Running, name: str) -> str:
    body = json.dumps({"name": name, "password": SECRET}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{platform.api_port}/api/v1/login", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["token"])


async def ask(
    session: aiohttp.ClientSession, base: str, route: Route, maker: Maker, login: str
) -> tuple[int, str]:
    path, body, headers = maker.request(route)
    if login:
        headers["Authorization"] = f"Bearer {login}"
    try:
        async with session.request(
            route.method, URL(base + path, encoded=True), data=body, headers=headers, allow_redirects=False
        ) as answer:
            text = (await answer.content.read(100_000)).decode(errors="replace")
            return answer.status, f"{route.method} {path[:300]} {(body or b'')[:300]!r}: {text[:300]}"
    except TimeoutError:
        return 0, ""  # a log that is followed has no end


async def test_no_request_is_answered_by_a_500_and_memory_stays(platform: Running) -> None:
    base = f"http://127.0.0.1:{platform.api_port}"
    logins = [token(platform, "fuzzer"), token(platform, "dev"), ""]
    seen: dict[int, int] = {}
    server = int(platform.json("status")["pid"])
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async with session.get(f"{base}/api/openapi.json", timeout=aiohttp.ClientTimeout(60)) as answer:
            schema = await answer.json()
        known = routes(schema)
        assert len(known) > 60
        before, wrong = 0, dict[str, str]()
        for first in range(0, REQUESTS, 20):
            makers = [Maker(number, schema) for number in range(first, first + 20)]
            found = await asyncio.gather(
                *(
                    ask(session, base, maker.random.choice(known), maker, maker.random.choice(logins))
                    for maker in makers
                )
            )
            for status, request in found:
                if status >= 500 and status not in (503, 507):
                    wrong.setdefault(request.partition("?")[0].partition(" b'")[0], request)
                seen[status] = seen.get(status, 0) + 1
            if first == REQUESTS // 4:  # by then everything that is loaded late is there
                before = proportional(server)
    assert not wrong, "\n".join(wrong.values())
    assert {200, 201, 204, 400, 401, 403, 404} <= set(seen), seen
    assert platform.json("status")["pid"] == server, "it is another process"
    assert (proportional(server) - before) / 1024 < GROWTH_MIB
    log = "".join(path.read_text(errors="replace") for path in Path(platform.data).glob("*.log"))
    assert "Exception in ASGI application" not in log


def _of_private(platform: Running) -> list[Any]:
    """What there is in a project that ``ada`` is no member of."""
    lists = (("robot", "ls"), ("webhook", "ls"), ("project", "members"), ("project", "registry-policy"))
    return [platform.json(*words, "private") for words in lists]


async def test_an_admin_of_one_project_reaches_nothing_of_another_by_any_route(platform: Running) -> None:
    """Every route that names a project, with another one's name and the numbers and names of what is in it."""
    platform.command("project", "create", "private")
    platform.command("project", "create", "other")
    # A user of its own: what is fuzzed before this may have removed any other.
    create = ("user", "create", "ada", "--password-stdin")
    platform.start_command(*create).communicate(f"{SECRET}\n".encode())
    platform.command("project", "add", "other", "ada", "--role", "admin")
    hook = platform.json("webhook", "add", "private", "https://hooks.example.org/", "--on", "image.pushed")
    platform.json("robot", "create", "private", "ci")
    before = _of_private(platform)
    base, login = f"http://127.0.0.1:{platform.api_port}", token(platform, "ada")
    inside = {"number": str(hook["id"]), "robot": "ci", "user": "ada"}
    tried = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        async with session.get(f"{base}/api/openapi.json") as answer:
            schema = await answer.json()
        for route in routes(schema):
            first = next((name for name in ("project", "name") if f"/projects/{{{name}}}" in route.path), "")
            if not first:
                continue
            owned = {**inside, "name": "app", first: "private"}
            borrowed = {**inside, "name": "app", first: "other"}
            for seed, names in enumerate([owned] * 5 + [borrowed] * ("{number}" in route.path)):
                path = route.path.format(**names)
                maker = Maker(seed, schema)
                _, body, headers = maker.request(route)
                headers["Authorization"] = f"Bearer {login}"
                async with session.request(route.method, base + path, data=body, headers=headers) as answer:
                    text = await answer.text()
                    harmless = names is borrowed and text == "[]"
                    assert answer.status in (400, 403, 404) or harmless, (
                        route.method,
                        path,
                        answer.status,
                        text,
                    )
                    tried += 1
    assert tried > 100
    assert _of_private(platform) == before
