"""Pages of referrers, of those we know and those that came under a tag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from slipway.registry import referrers
from slipway.testing.registry import Serving, serving

INDEX = "application/vnd.oci.image.index.v1+json"


async def listed(server: Serving, path: str) -> tuple[list[dict[str, Any]], int]:
    """Everything that following the links gives, and how many pages that took."""
    found: list[dict[str, Any]] = []
    pages = 0
    while path:
        answer = await server("GET", path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX)
        found += json.loads(answer.body)["manifests"]
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        pages += 1
        assert ('rel="next"' in answer.headers.get("Link", "")) == bool(path)
    return found, pages


async def subject_with_referrers(server: Serving, count: int) -> tuple[dict[str, Any], list[str]]:
    subject = await server.manifest("lib/x", b"layer")
    made = [
        await server.manifest(
            "lib/x", subject=subject, artifactType=f"application/{number % 2}", annotations={"n": str(number)}
        )
        for number in range(count)
    ]
    return subject, sorted(item["digest"] for item in made)


async def test_pages_follow_one_another_and_miss_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        subject, made = await subject_with_referrers(server, 7)
        path = f"/v2/lib/x/referrers/{subject['digest']}"
        found, pages = await listed(server, f"{path}?n=3")
        assert [item["digest"] for item in found] == made
        assert pages == 3
        assert {item["annotations"]["n"] for item in found} == set("0123456")
        assert (await listed(server, path))[1] == 1
        kind = quote("application/1", safe="")
        found, pages = await listed(server, f"{path}?n=2&artifactType={kind}")
        assert ({item["artifactType"] for item in found}, len(found), pages) == ({"application/1"}, 3, 2)
        assert await listed(server, f"{path}?n=0") == ([], 1)
        assert (await server("GET", f"{path}?last=sha256:zz")).code == "DIGEST_INVALID"


async def test_those_under_a_tag_are_merged_in_order_and_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        subject, made = await subject_with_referrers(server, 3)
        other = [await server.manifest("lib/x", annotations={"other": str(number)}) for number in range(3)]
        entries = [{**item, "artifactType": "application/other"} for item in other]
        size = int((await server("HEAD", f"/v2/lib/x/manifests/{made[0]}")).headers["Content-Length"])
        known = {**other[0], "digest": made[0], "size": size, "artifactType": "wrong"}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, known]}
        tag = subject["digest"].replace(":", "-")
        done = await server(
            "PUT", f"/v2/lib/x/manifests/{tag}", json.dumps(index).encode(), Content_Type=INDEX
        )
        assert done.status == 201, done.body
        path = f"/v2/lib/x/referrers/{subject['digest']}"
        found, pages = await listed(server, f"{path}?n=2")
        assert [item["digest"] for item in found] == sorted(made + [item["digest"] for item in other])
        assert pages == 3
        assert "wrong" not in {item.get("artifactType") for item in found}
        only, _ = await listed(server, f"{path}?artifactType=application/other")
        assert {item["digest"] for item in only} == {item["digest"] for item in other}


async def test_a_page_ends_before_it_is_too_large_for_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(referrers, "PAGE_BYTES", 3000)
    async with serving(tmp_path) as server:
        subject = await server.manifest("lib/x", b"layer")
        for number in range(4):
            await server.manifest("lib/x", subject=subject, annotations={str(number): "x" * 1200})
        found, pages = await listed(server, f"/v2/lib/x/referrers/{subject['digest']}")
        assert (len(found), pages) == (4, 2)
