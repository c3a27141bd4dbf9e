"""Who searches finds what they may pull, by name, description and labels."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slipway.access import Role
from slipway.errors import Invalid
from slipway.oci import Descriptor, Digest, ImageConfig, Index, MediaType, Platform
from slipway.registry import Registry
from slipway.registry.lists import parse_words
from slipway.testing.registry import SECRET, USER, Serving, serving

SAID = {
    "org.opencontainers.image.description": "A shop\n for Ünusual  things",
    "org.opencontainers.image.vendor": "Example_100% Ltd",
}


async def store(
    registry: Registry, repository: str, labels: dict[str, Any] | None = None, tag: str = "1"
) -> Descriptor:
    config = ImageConfig(Platform.host(), (), {"Cmd": [repository, tag], "Labels": labels or {}})
    return await registry.store_image(repository, [tag], config, [])


async def found(server: Serving, text: str, login: str = "") -> list[str]:
    """What ``docker search`` is told; ``login`` is NAME:SECRET, the administrator's if empty."""
    word = base64.b64encode((login or f"{USER}:{SECRET}").encode()).decode()
    answer = await server("GET", f"/v1/search?q={text}", Authorization=f"Basic {word}")
    assert answer.status == 200, answer.body
    body = json.loads(answer.body)
    assert body["num_results"] == len(body["results"])
    return [item["name"] for item in body["results"]]


async def test_by_name_description_and_labels(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await store(server.registry, "lib/shop-web", SAID)
        await store(server.registry, "lib/web")
        await store(server.registry, "lib/other", {"team": "Shop"})
        assert await found(server, "shop") == ["lib/shop-web", "lib/other"]
        assert await found(server, "SHOP%20web") == ["lib/shop-web"]
        assert await found(server, "%C3%BCnusual") == ["lib/shop-web"]
        assert await found(server, "team%3Dshop") == ["lib/other"]
        for literal, names in (("%25", ["lib/shop-web"]), ("_100", ["lib/shop-web"]), ("%5C", [])):
            assert await found(server, literal) == names, literal
        [first, *_] = await server.registry.lists.search(["shop"], ["lib"], 10)
        assert (first.description, first.tags) == ("A shop for Ünusual things", 1)


async def test_the_image_that_was_tagged_last_counts(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await store(server.registry, "lib/x", {"a": "before"}, "1")
        image = await store(server.registry, "lib/x", {"a": "after"}, "2")
        assert (await found(server, "before"), await found(server, "after")) == ([], ["lib/x"])
        sig = str(image.digest).replace(":", "-") + ".sig"
        await store(server.registry, "lib/x", {"a": "signature"}, sig)
        assert await found(server, "after") == ["lib/x"]
        listed = Descriptor(image.media_type, image.digest, image.size, platform=Platform.host())
        await server.registry.store_index("lib/x", ["all"], [listed])
        assert await found(server, "after") == ["lib/x"]


async def test_a_pushed_image_says_the_same_as_one_that_was_built(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        config = ImageConfig(Platform.host(), (), {"Labels": SAID}).to_bytes()
        blob = {**await server.blob("lib/x", config), "mediaType": MediaType.OCI_CONFIG}
        image = await server.manifest("lib/x", b"layer", config=blob)
        assert await found(server, "example") == []
        body = Index(
            (
                Descriptor(
                    image["mediaType"], Digest.parse(image["digest"]), image["size"], platform=Platform.host()
                ),
            )
        )
        answer = await server(
            "PUT", "/v2/lib/x/manifests/1", body.to_bytes(), Content_Type=MediaType.OCI_INDEX
        )
        assert answer.status == 201
        assert await found(server, "example") == ["lib/x"]


@pytest.mark.parametrize(
    "labels", [[], "text", {"a": 1, "b": None}, {"a": "\ud800"}, {"a": "x" * 999_999}, {"\0": "\0"}]
)
async def test_labels_of_any_kind_are_taken(tmp_path: Path, labels: Any) -> None:
    async with serving(tmp_path) as server:
        data = json.dumps({"config": {"Labels": labels}}).encode()
        blob = {**await server.blob("lib/x", data), "mediaType": MediaType.OCI_CONFIG}
        await server.manifest("lib/x", tag="1", config=blob)
        assert await found(server, "lib/x") == ["lib/x"]


async def test_only_what_one_may_pull_is_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for project in ("mine", "theirs"):
            await server.access.create_project(project)
        await server.access.create_user("dev", "correct horse")
        await server.access.set_member("mine", "dev", Role.GUEST)
        for name in ("lib/app", "mine/app", "mine/tool-app", "theirs/app"):
            await store(server.registry, name)
        robot, secret, _ = await server.access.create_robot(
            "mine", "ci", Role.GUEST, timedelta(days=1), ["tool-*"]
        )
        assert await found(server, "app") == ["lib/app", "mine/app", "mine/tool-app", "theirs/app"]
        assert await found(server, "app", "dev:correct horse") == ["lib/app", "mine/app", "mine/tool-app"]
        assert await found(server, "app", f"{robot}:{secret}") == ["mine/tool-app"]
        base = f"http://{server.address[0]}:{server.address[1]}"
        async with server.session.get(f"{base}/v1/search?q=app") as answer:
            assert [item["name"] for item in (await answer.json())["results"]] == ["lib/app"]
        answer_to_wrong = await server("GET", "/v1/search?q=app", Authorization="Basic ZGV2Ondyb25n")
        assert answer_to_wrong.status == 401


async def test_a_token_finds_only_with_the_scope_for_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.access.create_project("mine")
        await store(server.registry, "mine/app")
        for scope, names in (("registry:catalog:search", ["mine/app"]), ("repository:mine/app:pull", [])):
            token = json.loads((await server("GET", f"/token?scope={scope}")).body)["token"]
            answer = await server("GET", "/v1/search?q=app", Authorization=f"Bearer {token}")
            assert [item["name"] for item in json.loads(answer.body)["results"]] == names
        catalog = await server("GET", "/token?scope=registry:catalog:search")
        login = f"Bearer {json.loads(catalog.body)['token']}"
        assert (await server("GET", "/v2/_catalog", Authorization=login)).status == 401


async def test_a_search_is_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for number in range(30):
            await store(server.registry, f"lib/n{number:02}")
        assert len(await found(server, "lib/n")) == 25
        assert len(await found(server, "lib/n&n=1000000000")) == 30
        assert (await server("GET", "/v1/search?q=x&n=-1")).status == 400
        assert (await server("GET", f"/v1/search?q={'x' * 201}")).status == 400
    for text in ("x " * 11 + "y z", "\0"):
        with pytest.raises(Invalid):
            parse_words(" ".join(f"{number}{word}" for number, word in enumerate(text.split(" "))))
