"""The registry against real clients (docker, podman, skopeo) and against requests no client would send."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.testing.platform import Running
from slipway.testing.registry_clients import umoci_layout

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]
SECRET = "correct horse"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running.make(tmp_path_factory.mktemp("registry"))
    running.seed_base()
    running.up()
    for name, role in (("dev", "developer"), ("gus", "guest"), ("boss", "admin")):
        running.start_command("user", "create", name, "--password-stdin").communicate(f"{SECRET}\n".encode())
        running.command("project", "add", "demo", name, "--role", role)
    running.command("project", "create", "private")
    yield running
    running.down()


def run(*words: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=120
    )
    assert not ok or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return umoci_layout(tmp_path_factory.mktemp("layout"), b"hello\n" * 1000)


def skopeo_copy(
    platform: Running, layout: Path, user: str, name: str, ok: bool = True
) -> subprocess.CompletedProcess[str]:
    target = f"docker://127.0.0.1:{platform.api_port}/{name}"
    words = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "--dest-tls-verify=false",
        "--dest-creds",
        f"{user}:{SECRET}",
    ]
    return run(*words, f"oci:{layout}:1", target, ok=ok)


def test_skopeo_pushes_and_podman_pulls(platform: Running, layout: Path) -> None:
    skopeo_copy(platform, layout, "dev", "demo/hello:1")
    image = f"127.0.0.1:{platform.api_port}/demo/hello:1"
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # podman wants short names here
        storage = ["--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
        pulled = run(
            "podman", *storage, "pull", "-q", "--tls-verify=false", "--creds", f"gus:{SECRET}", image
        )
    assert len(pulled.stdout.strip()) == 64
    listed = platform.json("image", "ls")
    assert "demo/hello" in {item["repository"] for item in listed}


def test_docker_logs_in_pushes_and_pulls(platform: Running, tmp_path: Path) -> None:
    socket, config = tmp_path / "docker.sock", tmp_path / "config"
    daemon = subprocess.Popen(
        ["dockerd", "--data-root", tmp_path / "data", "--exec-root", tmp_path / "exec", "-p", tmp_path / "pid",
         "-H", f"unix://{socket}", "--bridge=none", "--iptables=false", "--storage-driver", "vfs"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    docker: list[str | Path] = ["/usr/bin/docker", "--config", config, "-H", f"unix://{socket}"]
    try:
        while run(*docker, "info", ok=False).returncode:
            assert daemon.poll() is None
            time.sleep(0.2)
        host = f"127.0.0.1:{platform.api_port}"
        (tmp_path / "context").mkdir()
        (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
        run(*docker, "build", "-q", "-t", f"{host}/demo/docker:1", tmp_path / "context")
        refused = run(*docker, "push", f"{host}/demo/docker:1", ok=False)
        assert refused.returncode != 0
        wrong = run(*docker, "login", "-u", "dev", "-p", "wrong words", host, ok=False)
        assert "unauthorized" in wrong.stderr
        robot = platform.json("robot", "create", "demo", "ci", "--role", "developer")
        run(*docker, "login", "-u", robot["login"], "-p", robot["secret"], host)
        run(*docker, "push", f"{host}/demo/docker:1")
        run(*docker, "rmi", f"{host}/demo/docker:1")
        run(*docker, "pull", f"{host}/demo/docker:1")
        assert "demo/docker" in run(*docker, "search", f"{host}/docker").stdout
        assert "demo/docker" not in run(*docker, "search", f"{host}/nothing-like-it").stdout
        run(*docker, "logout", host)
        assert "demo/docker" not in run(*docker, "search", f"{host}/docker").stdout
        run(*docker, "login", "-u", "dev", "-p", SECRET, host)
        assert "demo/docker" in run(*docker, "search", f"{host}/docker").stdout
        platform.command("project", "create", "shop", "--public")
        assert "shop" in platform.command("search", "shop").stdout.decode()
        [mine] = platform.json("search", "demo/docker")
        assert (mine["repository"], mine["tags"]) == ("demo/docker", 1)
        denied = run(*docker, "push", f"{host}/private/docker:1", ok=False)
        assert denied.returncode != 0
    finally:
        daemon.terminate()
        daemon.wait(30)


def test_guests_and_strangers_cannot_push(platform: Running, layout: Path) -> None:
    for user, name in (("gus", "demo/hello:2"), ("dev", "private/hello:1"), ("nobody", "demo/hello:2")):
        refused = skopeo_copy(platform, layout, user, name, ok=False)
        assert refused.returncode != 0
        assert "unauthorized" in refused.stderr


class Api:
    """Plain requests with Basic credentials; answers as (status, headers, body)."""

    def __init__(self, platform: Running, user: str = "dev") -> None:
        self._base = f"http://127.0.0.1:{platform.api_port}"
        self._basic = b64encode(f"{user}:{SECRET}".encode()).decode()

    def __call__(self, method: str, path: str, data: bytes = b"", **headers: str) -> tuple[int, Any, bytes]:
        given = {"Authorization": f"Basic {self._basic}"}
        given |= {key.replace("_", "-"): text for key, text in headers.items()}
        request = urllib.request.Request(self._base + path, data or None, given, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_an_upload_in_chunks_is_resumed_where_it_stopped(platform: Running) -> None:
    api = Api(platform)
    data = os.urandom(300_000)
    _, headers, _ = api("POST", "/v2/demo/chunks/blobs/uploads/")
    place = headers["Location"]
    assert api("PATCH", place, data[:100_000], Content_Range="0-99999")[0] == 202
    assert api("PATCH", place, data[:10], Content_Range="5-14")[0] == 416
    status, headers, _ = api("GET", place)
    assert (status, headers["Range"]) == (204, "0-99999")
    assert api("PATCH", place, data[100_000:], Content_Range="100000-299999")[0] == 202
    assert api("PUT", f"{place}?digest={digest(b'other')}")[0] == 400
    assert api("PUT", f"{place}?digest={digest(data)}")[0] == 201
    assert api("GET", f"/v2/demo/chunks/blobs/{digest(data)}")[2] == data


def test_ranges_of_a_blob(platform: Running) -> None:
    api = Api(platform)
    data = bytes(range(256)) * 8
    assert api("POST", f"/v2/demo/ranges/blobs/uploads/?digest={digest(data)}", data)[0] == 201
    blob = f"/v2/demo/ranges/blobs/{digest(data)}"
    for text, expected in (
        ("500-1499", data[500:1500]),
        ("500-", data[500:]),
        ("-500", data[-500:]),
        ("2000-5000", data[2000:]),
    ):
        status, _, body = api("GET", blob, Range=f"bytes={text}")
        assert (status, body) == (206, expected)
    for text in ("500-0", "4096-"):
        assert api("GET", blob, Range=f"bytes={text}")[0] == 416


def test_a_blob_is_read_only_where_it_is_linked(platform: Running) -> None:
    api = Api(platform)
    data = os.urandom(1000)
    api("POST", f"/v2/demo/one/blobs/uploads/?digest={digest(data)}", data)
    assert api("HEAD", f"/v2/demo/one/blobs/{digest(data)}")[0] == 200
    assert api("HEAD", f"/v2/demo/two/blobs/{digest(data)}")[0] == 404
    mount = f"?mount={digest(data)}&from=demo/one"
    assert api("POST", f"/v2/demo/two/blobs/uploads/{mount}")[0] == 201
    assert api("HEAD", f"/v2/demo/two/blobs/{digest(data)}")[0] == 200
    # From a project one may not read, a mount is just a new upload: it does not tell what is there.
    assert api("POST", f"/v2/demo/three/blobs/uploads/?mount={digest(data)}&from=private/x")[0] == 202


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize(
    ("reference", "content_type", "body", "code"),
    [
        ("1", MANIFEST, {"schemaVersion": 2, "layers": [], "manifests": []}, "MANIFEST_INVALID"),
        ("1", INDEX, {"schemaVersion": 2, "mediaType": MANIFEST}, "MANIFEST_INVALID"),
        ("1", "text/plain", {"schemaVersion": 2}, "MANIFEST_INVALID"),
        ("sha256:12", INDEX, {"schemaVersion": 2, "manifests": []}, "DIGEST_INVALID"),
    ],
)
def test_confused_manifests_are_refused(
    platform: Running, reference: str, content_type: str, body: dict[str, Any], code: str
) -> None:
    status, _, answer = Api(platform)(
        "PUT", f"/v2/demo/bad/manifests/{reference}", json.dumps(body).encode(), Content_Type=content_type
    )
    assert status == 400
    assert json.loads(answer)["errors"][0]["code"] == code


def test_a_manifest_needs_what_it_names(platform: Running) -> None:
    missing = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(b"none"), "size": 4}
    kind = "application/vnd.oci.image.manifest.v1+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": missing, "layers": []}).encode()
    status, _, answer = Api(platform)("PUT", "/v2/demo/lacking/manifests/1", body, Content_Type=kind)
    assert (status, json.loads(answer)["errors"][0]["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd",
        "/v2/demo/../private/x/tags/list",
        "/v2/DEMO/x/tags/list",
        "/v2/demo/x/blobs/..%2f..",
        "/v2/x",
    ],
)
def test_odd_paths_lead_nowhere(platform: Running, path: str) -> None:
    assert Api(platform)("GET", path)[0] in (400, 401, 403, 404)


def test_the_catalog_shows_what_one_may_pull(platform: Running, layout: Path) -> None:
    skopeo_copy(platform, layout, "dev", "demo/seen:1")
    status, _, body = Api(platform, "gus")("GET", "/v2/_catalog")
    assert status == 200
    projects = {name.partition("/")[0] for name in json.loads(body)["repositories"]}
    assert projects <= {"demo", "library"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{platform.api_port}/v2/_catalog")
    with refused.value as answer:
        assert answer.code == 401
        assert "Bearer realm=" in answer.headers["WWW-Authenticate"]


def _artifact(
    api: Api, repository: str, subject: dict[str, Any] | None = None, **values: Any
) -> dict[str, Any]:
    """Push a small manifest; its descriptor."""
    empty = b"{}"
    api("POST", f"/v2/{repository}/blobs/uploads/?digest={digest(empty)}", empty)
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(empty), "size": 2}
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [],
        **values,
    }
    if subject is not None:
        body["subject"] = subject
    data = json.dumps(body).encode()
    status, headers, _ = api("PUT", f"/v2/{repository}/manifests/{digest(data)}", data, Content_Type=MANIFEST)
    assert status == 201
    assert headers.get("OCI-Subject") == (subject["digest"] if subject else None)
    return {"mediaType": MANIFEST, "digest": digest(data), "size": len(data)}


def test_a_size_that_is_not_the_blobs_is_refused(platform: Running) -> None:
    api = Api(platform)
    made = _artifact(api, "demo/sizes")
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 3}
    body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).encode()
    status, _, answer = api("PUT", "/v2/demo/sizes/manifests/1", body, Content_Type=MANIFEST)
    assert (status, json.loads(answer)["errors"][0]["code"]) == (400, "MANIFEST_INVALID")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**made, "size": made["size"] + 1}]}
    status, _, answer = api(
        "PUT", "/v2/demo/sizes/manifests/1", json.dumps(index).encode(), Content_Type=INDEX
    )
    assert (status, json.loads(answer)["errors"][0]["code"]) == (400, "MANIFEST_INVALID")


def test_referrers_that_came_as_a_tag_are_listed_with_those_we_know(platform: Running) -> None:
    api = Api(platform)
    image = _artifact(api, "demo/about")
    ours = _artifact(api, "demo/about", image, artifactType="application/ours")
    other = _artifact(api, "demo/about", annotations={"by": "another"})
    listed = {**other, "artifactType": "application/theirs"}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [listed, {**ours, "artifactType": "application/ours"}],
    }
    tag = image["digest"].replace(":", "-")
    status, _, _ = api(
        "PUT", f"/v2/demo/about/manifests/{tag}", json.dumps(index).encode(), Content_Type=INDEX
    )
    assert status == 201
    _, _, body = api("GET", f"/v2/demo/about/referrers/{image['digest']}")
    found = json.loads(body)["manifests"]
    assert sorted(item["digest"] for item in found) == sorted([ours["digest"], other["digest"]])
    path = f"/v2/demo/about/referrers/{image['digest']}?artifactType=application/theirs"
    _, headers, body = api("GET", path)
    assert [item["digest"] for item in json.loads(body)["manifests"]] == [other["digest"]]
    assert headers["OCI-Filters-Applied"] == "artifactType"


def test_a_long_list_of_tags_comes_in_pages(platform: Running) -> None:
    api = Api(platform)
    made = _artifact(api, "demo/many")
    data = api("GET", f"/v2/demo/many/manifests/{made['digest']}")[2]
    names = sorted(f"t{number}" for number in range(1_050))
    for name in names:
        assert api("PUT", f"/v2/demo/many/manifests/{name}", data, Content_Type=MANIFEST)[0] == 201
    found: list[str] = []
    path = "/v2/demo/many/tags/list"
    while path:
        status, headers, body = api("GET", path)
        assert status == 200
        found += json.loads(body)["tags"]
        link = headers.get("Link", "")
        path = link.partition(">")[0].lstrip("<")
    assert found == names
    assert len(json.loads(api("GET", "/v2/demo/many/tags/list")[2])["tags"]) == 1_000
    assert len(json.loads(api("GET", "/v2/demo/many/tags/list?n=7")[2])["tags"]) == 7
    user = ["--creds", f"dev:{SECRET}", "--tls-verify=false"]
    listed = run("skopeo", "list-tags", *user, f"docker://127.0.0.1:{platform.api_port}/demo/many")
    assert sorted(json.loads(listed.stdout)["Tags"]) == names


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("DELETE", "/v2/demo/hello/manifests/sha256:zz", 400, "DIGEST_INVALID"),
        ("GET", "/v2/demo/HELLO/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/demo/..%2fx/manifests/1", 400, "NAME_INVALID"),
        ("POST", "/v2/demo/a--/blobs/uploads/", 400, "NAME_INVALID"),
    ],
)
def test_what_is_malformed_is_said_by_its_code(
    platform: Running, method: str, path: str, status: int, code: str
) -> None:
    found, _, body = Api(platform, "boss")(method, path)
    assert (found, json.loads(body)["errors"][0]["code"]) == (status, code)


def test_head_is_answered_wherever_get_is(platform: Running) -> None:
    api = Api(platform)
    made = _artifact(api, "demo/head")
    _, headers, _ = api("POST", "/v2/demo/head/blobs/uploads/")
    for path in ("/v2/demo/head/tags/list", f"/v2/demo/head/referrers/{made['digest']}", headers["Location"]):
        status, _, body = api("HEAD", path)
        assert (status in (200, 204), body) == (True, b"")


def test_a_blob_that_a_client_was_told_of_is_young_again(platform: Running) -> None:
    """Asked for and there: the client will not send it, so it must still be there when the manifest comes."""
    api = Api(platform)
    data = os.urandom(100)
    api("POST", f"/v2/demo/young/blobs/uploads/?digest={digest(data)}", data)
    hexadecimal = digest(data).removeprefix("sha256:")
    path = platform.data / "content/blobs/sha256" / hexadecimal[:2] / hexadecimal
    os.utime(path, (1, 1))
    assert api("GET", f"/v2/demo/young/blobs/{digest(data)}")[0] == 200
    assert path.stat().st_mtime == 1
    assert api("HEAD", f"/v2/demo/young/blobs/{digest(data)}")[0] == 200
    assert time.time() - path.stat().st_mtime < 60
