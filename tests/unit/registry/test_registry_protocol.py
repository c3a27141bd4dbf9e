"""The distribution specification's own words, one after another, where real clients do not go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slipway.oci.manifest import MAX_MANIFEST
from slipway.testing.registry import EMPTY, MANIFEST, Serving, digest_of, serving

INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path) as found:
        yield found


async def put(server: Serving, name: str, kind: str, value: Any) -> tuple[int, bytes]:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    answer = await server("PUT", f"/v2/lib/x/manifests/{name}", data, Content_Type=kind)
    return answer.status, data


@pytest.mark.parametrize(
    ("kind", "config", "layer", "more"),
    [
        (MANIFEST, "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+zstd", {}),
        (DOCKER, "application/vnd.docker.container.image.v1+json",
         "application/vnd.docker.image.rootfs.diff.tar.gzip", {}),
        (MANIFEST, "application/vnd.cncf.helm.config.v1+json",
         "application/vnd.cncf.helm.chart.content.v1.tar+gzip", {}),
        (MANIFEST, "application/vnd.wasm.config.v0+json", "application/wasm", {}),
        (MANIFEST, EMPTY, "application/spdx+json", {"artifactType": "application/spdx+json"}),
        (MANIFEST, "application/vnd.oci.image.config.v1+json",
         "application/vnd.dev.cosign.simplesigning.v1+json", {}),
        (MANIFEST, EMPTY, "text/x-anything; charset=utf-8", {"artifactType": "application/x.anything+else"}),
    ],
)  # fmt: skip
async def test_artifacts_of_any_type_come_back_as_they_were(
    server: Serving, kind: str, config: str, layer: str, more: dict[str, Any]
) -> None:
    value = {
        "schemaVersion": 2, "mediaType": kind, "config": {**await server.blob("lib/x", b"{}"), "mediaType": config},
        "layers": [{**await server.blob("lib/x", b"content"), "mediaType": layer}], **more,
    }  # fmt: skip
    data = json.dumps(value, indent=7).encode()  # its bytes, not its meaning, are kept
    assert (await put(server, "1", kind, data))[0] == 201
    for name in ("1", digest_of(data)):
        answer = await server("GET", f"/v2/lib/x/manifests/{name}")
        assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, data, kind)
        head = await server("HEAD", f"/v2/lib/x/manifests/{name}")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(data)))
        assert head.headers["Docker-Content-Digest"] == digest_of(data)
    listed = INDEX if kind == MANIFEST else DOCKER_LIST
    entry = {"mediaType": kind, "digest": digest_of(data), "size": len(data),
             "platform": {"os": "linux", "architecture": "arm64"}}  # fmt: skip
    status, index = await put(
        server, "all", listed, {"schemaVersion": 2, "mediaType": listed, "manifests": [entry]}
    )
    answer = await server("GET", "/v2/lib/x/manifests/all")
    assert (status, answer.body, answer.headers["Content-Type"]) == (201, index, listed)


async def test_a_manifest_of_exactly_four_mebibytes_and_no_more(server: Serving) -> None:
    value: dict[str, Any] = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": {**await server.blob("lib/x", b"{}"), "mediaType": EMPTY},
        "layers": [], "annotations": {"x": ""},
    }  # fmt: skip
    assert MAX_MANIFEST == 4 << 20
    value["annotations"]["x"] = "y" * (MAX_MANIFEST - len(json.dumps(value)))
    assert len(json.dumps(value)) == MAX_MANIFEST
    status, data = await put(server, "large", MANIFEST, value)
    assert status == 201
    assert (await server("GET", "/v2/lib/x/manifests/large")).body == data
    value["annotations"]["x"] += "y"
    answer = await server("PUT", "/v2/lib/x/manifests/2", json.dumps(value).encode(), Content_Type=MANIFEST)
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")


async def test_empty_blobs_and_other_algorithms(server: Serving) -> None:
    await server.blob("lib/x", b"")
    answer = await server("GET", f"/v2/lib/x/blobs/{digest_of(b'')}")
    assert (answer.status, answer.body) == (200, b"")
    assert (await server("GET", f"/v2/lib/x/blobs/{digest_of(b'')}", Range="bytes=0-5")).status == 416
    digest = "sha512:" + hashlib.sha512(b"content").hexdigest()
    begun = await server("POST", "/v2/lib/x/blobs/uploads/")
    assert (await server("PATCH", begun.headers["Location"], b"con")).status == 202
    done = await server("PUT", f"{begun.headers['Location']}?digest={digest}", b"tent")
    assert (done.status, done.headers["Docker-Content-Digest"]) == (201, digest)
    assert (await server("GET", f"/v2/lib/x/blobs/{digest}")).body == b"content"
    value = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": {**await server.blob("lib/x", b"{}"), "mediaType": EMPTY},
        "layers": [{"mediaType": "application/x", "digest": digest, "size": 7}],
    }  # fmt: skip
    name = "sha512:" + hashlib.sha512(json.dumps(value).encode()).hexdigest()
    status, data = await put(server, name, MANIFEST, value)
    answer = await server("GET", f"/v2/lib/x/manifests/{name}")
    assert (status, answer.body, answer.headers["Docker-Content-Digest"]) == (201, data, name)
    for wrong in ("md5:0", "sha256:ab", "", "sha384:" + "0" * 96):
        begun = await server("POST", "/v2/lib/x/blobs/uploads/")
        answer = await server("PUT", f"{begun.headers['Location']}?digest={wrong}", b"x")
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_an_upload_is_taken_back(server: Serving) -> None:
    begun = await server("POST", "/v2/lib/x/blobs/uploads/")
    place = begun.headers["Location"]
    assert (begun.status, begun.headers["Range"]) == (202, "0-0")
    assert (await server("PATCH", place, b"some")).status == 202
    assert (await server("DELETE", place)).status == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert (await server(method, f"{place}?digest={digest_of(b'some')}")).code == "BLOB_UPLOAD_UNKNOWN"
    assert server.registry.blobs.uploads() == []


async def test_a_mount_that_cannot_be_is_an_upload(server: Serving) -> None:
    blob = await server.blob("lib/x", b"content")
    path = f"/v2/lib/y/blobs/uploads/?mount={blob['digest']}"
    for more in ("", "&from=lib/none", "&from=no/project"):
        answer = await server("POST", f"{path}{more}")
        assert (answer.status, answer.headers["Range"]) == (202, "0-0"), more
    mounted = await server("POST", f"{path}&from=lib/x")
    assert (mounted.status, mounted.headers["Docker-Content-Digest"]) == (201, blob["digest"])
    assert mounted.headers["Location"] == f"/v2/lib/y/blobs/{blob['digest']}"


async def test_lists_of_tags(server: Serving) -> None:
    for tag in ("b", "a", "C"):
        await server.manifest("lib/x", b"layer", tag=tag)

    async def tags(query: str) -> tuple[list[str], bool]:
        answer = await server("GET", f"/v2/lib/x/tags/list{query}")
        value = json.loads(answer.body)
        assert (answer.status, value["name"]) == (200, "lib/x")
        return value["tags"], "Link" in answer.headers

    assert await tags("") == (["C", "a", "b"], False)
    assert await tags("?n=0") == ([], False)
    assert await tags("?n=2") == (["C", "a"], True)
    assert await tags("?n=2&last=a") == (["b"], False)
    assert await tags("?last=C") == (["a", "b"], False)
    assert await tags("?last=zzz") == ([], False)
    answer = await server("GET", "/v2/lib/none/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


async def test_what_refers_to_something_that_is_not_there_yet(server: Serving) -> None:
    subject = {"mediaType": MANIFEST, "digest": digest_of(b"later"), "size": 5}
    empty = await server("GET", f"/v2/lib/x/referrers/{subject['digest']}")
    assert (empty.status, json.loads(empty.body)["manifests"]) == (200, [])
    assert empty.headers["Content-Type"] == INDEX
    assert "OCI-Filters-Applied" not in empty.headers
    config = {**await server.blob("lib/x", b"{}"), "mediaType": "application/x.config"}
    made = {}
    for number, more in enumerate(({"artifactType": "application/x.sbom"}, {})):
        value = {
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [], "subject": subject,
            "annotations": {"n": str(number)}, **more,
        }  # fmt: skip
        data = json.dumps(value).encode()
        answer = await server("PUT", f"/v2/lib/x/manifests/{digest_of(data)}", data, Content_Type=MANIFEST)
        assert (answer.status, answer.headers["OCI-Subject"]) == (201, subject["digest"])
        made[digest_of(data)] = {
            "mediaType": MANIFEST, "digest": digest_of(data), "size": len(data), "annotations": {"n": str(number)},
            "artifactType": more.get("artifactType", "application/x.config"),
        }  # fmt: skip
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject}
    data = json.dumps(index).encode()
    answer = await server("PUT", f"/v2/lib/x/manifests/{digest_of(data)}", data, Content_Type=INDEX)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, subject["digest"])
    made[digest_of(data)] = {"mediaType": INDEX, "digest": digest_of(data), "size": len(data)}
    path = f"/v2/lib/x/referrers/{subject['digest']}"
    listed = json.loads((await server("GET", path)).body)
    assert {item["digest"]: item for item in listed["manifests"]} == made
    answer = await server("GET", f"{path}?artifactType=application/x.sbom")
    assert [item["annotations"]["n"] for item in json.loads(answer.body)["manifests"]] == ["0"]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    answer = await server("GET", f"{path}?artifactType=application/x.none")
    assert (answer.status, json.loads(answer.body)["manifests"]) == (200, [])
    answer = await server("GET", "/v2/lib/x/referrers/sha256:short")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_what_is_deleted_is_not_found_by_any_name(server: Serving) -> None:
    image = await server.manifest("lib/x", b"layer", tag="1")
    await server.manifest("lib/x", b"layer", tag="2")
    assert (await server("DELETE", "/v2/lib/x/manifests/1")).status == 202
    assert (await server("GET", "/v2/lib/x/manifests/1")).code == "MANIFEST_UNKNOWN"
    assert (await server("GET", "/v2/lib/x/manifests/2")).status == 200
    assert (await server("DELETE", f"/v2/lib/x/manifests/{image['digest']}")).status == 202
    for name in ("1", "2", image["digest"]):
        for method in ("GET", "HEAD", "DELETE"):
            assert (await server(method, f"/v2/lib/x/manifests/{name}")).status == 404
    blob = f"/v2/lib/x/blobs/{digest_of(b'layer')}"
    assert (await server("DELETE", blob)).status == 202
    answer = await server("DELETE", blob)
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
    for method in ("GET", "HEAD"):
        assert (await server(method, blob)).status == 404


async def test_an_image_that_lacks_a_blob_is_said_to(server: Serving) -> None:
    value = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": {**await server.blob("lib/x", b"{}"), "mediaType": EMPTY},
        "layers": [{"mediaType": "application/x", "digest": digest_of(b"none"), "size": 4}],
    }  # fmt: skip
    answer = await server("PUT", "/v2/lib/x/manifests/1", json.dumps(value).encode(), Content_Type=MANIFEST)
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
