"""Two registry processes over one PostgreSQL and one bucket: a client may ask either, and one may be killed."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway.testing.faults import Fault
from slipway.testing.platform import Running
from slipway.testing.several import LOGIN, MEBIBYTE, SECRET, Server, Site, several_registries

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="starts servers as their own users"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with several_registries(tmp_path_factory.mktemp("several")) as found:
        yield found


def push(site: Site, server: Server, name: str) -> subprocess.CompletedProcess[str]:
    target = f"docker://127.0.0.1:{server.port}/demo/{name}:1"
    words = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "--dest-tls-verify=false",
        "--dest-creds",
        f"dev:{SECRET}",
    ]
    return subprocess.run(
        [*words, f"oci:{site.layout}:1", target], capture_output=True, text=True, timeout=200, check=False
    )


def pull(server: Server, name: str, target: Path) -> subprocess.CompletedProcess[str]:
    source = f"docker://127.0.0.1:{server.port}/demo/{name}:1"
    words = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--src-creds", f"dev:{SECRET}"]
    return subprocess.run(
        [*words, source, f"oci:{target}:1"], capture_output=True, text=True, timeout=200, check=False
    )


def blobs(layout: Path) -> set[str]:
    return {path.name for path in (layout / "blobs/sha256").iterdir()}


def manifest_of(layout: Path) -> str:
    digest: str = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    return digest


def test_pushed_to_one_and_pulled_from_the_other(site: Site, tmp_path: Path) -> None:
    done = push(site, site.one, "app")
    assert done.returncode == 0, done.stderr + site.one.log()
    done = pull(site.two, "app", tmp_path / "pulled")
    assert done.returncode == 0, done.stderr + site.two.log()
    assert manifest_of(tmp_path / "pulled") == manifest_of(site.layout)
    assert blobs(tmp_path / "pulled") <= blobs(site.layout)
    assert not (site.one.directory / "never").exists()


def test_a_token_of_one_is_good_for_the_other(site: Site) -> None:
    scope = "scope=repository:demo/app:pull&service=slipway-registry"
    token = json.loads(site.one.ask("GET", f"/token?{scope}")[2])["token"]
    status, _, _ = site.two.ask("GET", "/v2/demo/app/tags/list", Authorization=f"Bearer {token}")
    assert status == 200


def test_an_upload_begun_on_one_is_finished_on_the_other(site: Site) -> None:
    data = random.Random(3).randbytes(25 * MEBIBYTE)
    status, headers, _ = site.one.ask("POST", "/v2/demo/parts/blobs/uploads/")
    assert status == 202
    place = headers["location"]
    bounds = [0, 3, 9 * MEBIBYTE, 20 * MEBIBYTE, len(data)]
    servers = [site.one, site.two, site.two, site.one]
    for first, last, server in zip(bounds, bounds[1:], servers, strict=False):
        piece = {"Content-Range": f"{first}-{last - 1}", "Content-Type": "application/octet-stream"}
        status, headers, body = server.ask("PATCH", place, data[first:last], **piece)
        assert (status, headers.get("range")) == (202, f"0-{last - 1}"), body
        other = site.two if server is site.one else site.one
        assert other.ask("GET", place)[1]["range"] == f"0-{last - 1}"
    assert site.two.ask("PATCH", place, data[3:9], **{"Content-Range": "3-8"})[0] == 416
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    wrong = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    assert site.two.ask("PUT", f"{place}?digest={wrong}", b"")[0] == 400
    assert site.two.ask("PUT", f"{place}?digest={digest}", b"")[0] == 201
    assert site.one.ask("GET", f"/v2/demo/parts/blobs/{digest}")[2] == data
    span = site.one.ask("GET", f"/v2/demo/parts/blobs/{digest}", Range="bytes=8388600-8388615")
    assert (span[0], span[2]) == (206, data[8388600:8388616])


def test_one_is_killed_in_the_middle_of_a_push(site: Site, tmp_path: Path) -> None:
    """Half of a body has arrived when the process goes: the other knows where it stood."""
    data = random.Random(4).randbytes(40 * MEBIBYTE)
    place = site.one.ask("POST", "/v2/demo/killed/blobs/uploads/")[1]["location"]
    connection = http.client.HTTPConnection("127.0.0.1", site.one.port)
    connection.putrequest("PATCH", place)
    for name, value in (LOGIN | {"Content-Length": str(len(data))}).items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(data[: 20 * MEBIBYTE])
    end = time.monotonic() + 60
    while (there := site.two.ask("GET", place)[1]["range"]) == "0-0" and time.monotonic() < end:
        time.sleep(0.2)
    site.one.end(signal.SIGKILL)
    connection.close()
    there = site.two.ask("GET", place)[1]["range"]
    offset = int(there.partition("-")[2]) + 1
    assert offset in (8 * MEBIBYTE, 16 * MEBIBYTE)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    status, _, body = site.two.ask("PUT", f"{place}?digest={digest}", data[offset:])
    assert status == 201, body
    assert site.two.ask("GET", f"/v2/demo/killed/blobs/{digest}")[2] == data
    site.one.start()
    assert site.one.ask("HEAD", f"/v2/demo/killed/blobs/{digest}")[0] == 200


def test_a_push_is_repeated_on_the_other(site: Site, tmp_path: Path) -> None:
    """skopeo's push is under way when its server goes."""
    with subprocess.Popen(
        [
            "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-creds", f"dev:{SECRET}",
            f"oci:{site.layout}:1", f"docker://127.0.0.1:{site.one.port}/demo/again:1",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as client:  # fmt: skip
        time.sleep(1.5)
        site.one.end(signal.SIGKILL)
        client.terminate()
    done = push(site, site.two, "again")
    assert done.returncode == 0, done.stderr + site.two.log()
    site.one.start()
    assert pull(site.one, "again", tmp_path / "pulled").returncode == 0
    assert manifest_of(tmp_path / "pulled") == manifest_of(site.layout)


def test_the_database_goes_and_comes_back(site: Site, tmp_path: Path) -> None:
    site.postgres.stop()
    try:
        for server in (site.one, site.two):
            status, _, body = server.ask("GET", "/v2/demo/app/manifests/1")
            assert status == 503
            assert "database does not answer" in json.loads(body)["errors"][0]["message"]
            assert server.health() == 503
        assert push(site, site.one, "gone").returncode != 0
    finally:
        site.postgres.start()
    for server in (site.one, site.two):
        assert server.ask("GET", "/v2/demo/app/manifests/1")[0] == 200
        assert server.health() == 200
    done = push(site, site.two, "gone")
    assert done.returncode == 0, done.stderr
    assert pull(site.one, "gone", tmp_path / "pulled").returncode == 0


def test_the_bucket_goes_and_comes_back(site: Site, tmp_path: Path) -> None:
    config = json.loads(site.two.ask("GET", "/v2/demo/app/manifests/1")[2])["config"]["digest"]
    for fault in ("500", "cut"):
        site.faults.decide = lambda _method, _path, fault=fault: fault  # type: ignore[misc]
        began = time.monotonic()
        for method, path in (
            ("HEAD", f"/v2/demo/app/blobs/{config}"),
            ("POST", "/v2/demo/app/blobs/uploads/"),
        ):
            assert site.one.ask(method, path)[0] == 503
        assert site.two.ask("GET", "/v2/demo/app/manifests/1")[0] == 200  # read a moment ago, it is in memory
        status, _, body = site.two.ask("GET", f"/v2/demo/app/blobs/{config}")
        assert status == 503
        assert "bucket does not answer" in json.loads(body)["errors"][0]["message"]
        assert time.monotonic() - began < 120
    site.faults.decide = lambda _method, _path: "pass"
    assert site.one.ask("HEAD", f"/v2/demo/app/blobs/{config}")[0] == 200
    done = push(site, site.one, "bucket")
    assert done.returncode == 0, done.stderr
    assert pull(site.two, "bucket", tmp_path / "pulled").returncode == 0


def test_pushes_beside_a_server_that_stumbles(site: Site, tmp_path: Path) -> None:
    """Every twentieth request to the bucket fails, and nobody notices."""
    numbers = itertools.count(1)
    kinds: tuple[Fault, ...] = ("500", "cut", "deaf")

    def decide(_method: str, _path: str) -> Fault:
        number = next(numbers)
        return "pass" if number % 20 else kinds[number // 20 % 3]

    site.faults.decide = decide
    with ThreadPoolExecutor(4) as pool:
        servers = [site.one, site.two] * 2
        done = list(pool.map(lambda job: push(site, job[1], f"many{job[0]}"), enumerate(servers)))
    site.faults.decide = lambda _method, _path: "pass"
    assert [item.returncode for item in done] == [0] * 4, [item.stderr for item in done]
    for number in range(4):
        assert pull(site.two, f"many{number}", tmp_path / str(number)).returncode == 0


def test_a_whole_server_builds_into_what_the_registries_serve(site: Site, tmp_path: Path) -> None:
    platform = Running.make(tmp_path / "platform")
    platform.variables = site.common
    platform.directory.mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/hello").write_bytes(b"hello\n" * 400_000)
    (tmp_path / "source/Dockerfile").write_text("FROM scratch\nCOPY hello /hello\n")
    try:
        platform.up()
        platform.command("build", str(tmp_path / "source"), "-t", "built:1")
        assert not (platform.data / "content").exists()
        assert not (platform.data / "state.db").exists()
    finally:
        platform.down()
    done = pull(site.one, "built", tmp_path / "pulled")
    assert done.returncode == 0, done.stderr
    assert len(blobs(tmp_path / "pulled")) == 3


def test_a_server_needs_what_is_shared(site: Site) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slipway.cli", "serve", "--role", "registry"],
        env=site.one.environment | {"SLIPWAY_KEYS": ""}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "needs the setting keys" in done.stderr


def test_both_end_when_asked(site: Site) -> None:
    assert [site.one.end(), site.two.end()] == [0, 0]
