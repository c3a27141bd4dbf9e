"""The build cache in a registry: a second site builds with what the first one left there, kept directories included."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.testing.busybox import BUSYBOX
from slipway.testing.platform import Running
from slipway.testing.registries import debian_registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
    pytest.mark.timeout(300),
]
DOCKERFILE = """\
FROM scratch AS tools
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox cat /proc/sys/kernel/random/uuid > /made"]
FROM tools
COPY text /text
RUN --mount=type=cache,target=/kept ["/bin/busybox", "sh", "-c", "echo x >> /kept/runs; /bin/busybox cp /kept/runs /r"]
FROM scratch
COPY --from=1 /made /text /r /
"""


@pytest.fixture(scope="module")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Running]]:
    found = []
    for name in ("a", "b"):
        directory = tmp_path_factory.mktemp("caches") / name
        directory.mkdir()
        found.append(Running.make(directory))
        found[-1].up()
    yield found
    for item in found:
        item.down()


def _source(directory: Path) -> Path:
    directory.mkdir()
    shutil.copy(BUSYBOX, directory / "busybox")
    (directory / "text").write_text("one\n")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return directory


def _build(platform: Running, *words: str) -> tuple[list[str], dict[str, Any]]:
    """The steps that had to run, and the result."""
    lines = platform.command("--output", "json", "build", *words).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    ran = [item["name"] for item in events if item["event"] == "build.step.done" and not item["cached"]]
    return ran, events[-1]["result"]


def test_another_site_runs_only_what_changed(platforms: list[Running], tmp_path: Path) -> None:
    first, second = platforms
    with debian_registry(tmp_path / "registry") as host:
        cache = f"{host}/team/cache:main"
        here, there = _source(tmp_path / "here"), _source(tmp_path / "there")
        ran, made = _build(first, str(here), "-t", "web", "--cache-from", cache, "--cache-to", cache)
        assert len(ran) == 5

        ran, again = _build(second, str(there), "-t", "web", "--cache-from", cache)
        assert ran == []
        assert again["digest"] == made["digest"]

        # A file that the last RUN stands on: it runs, in the kept directory as the first site left it.
        (there / "text").write_text("two\n")
        ran, _ = _build(second, str(there), "-t", "web", "--cache-from", cache)
        assert [name.split()[0] for name in ran] == ["COPY", "RUN", "COPY"]
        second.command("image", "export", "demo/web", "-o", str(tmp_path / "root"), "--format", "local")
        assert (tmp_path / "root/r").read_text() == "x\nx\n"

        # What was imported stays with the build that named it.
        (there / "text").write_text("one\n")
        ran, _ = _build(second, str(there), "-t", "other")
        assert len(ran) == 5


def test_here_by_name_with_the_least_and_without_mounts(platforms: list[Running], tmp_path: Path) -> None:
    first = platforms[0]
    source = _source(tmp_path / "source")
    (source / "text").write_text("least\n")
    words = [
        str(source),
        "-t",
        "least",
        "--cache-to",
        "type=registry,ref=demo/least:cache,mode=min,mounts=no",
    ]
    _build(first, *words)
    found = first.json("image", "export", "demo/least:cache", "-o", str(tmp_path / "c"), "--format", "oci")
    assert found
    shutil.unpack_archive(str(tmp_path / "c"), tmp_path / "unpacked", "tar")
    index = json.loads((tmp_path / "unpacked/index.json").read_text())
    blobs = tmp_path / "unpacked/blobs/sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    assert manifest["artifactType"] == "application/vnd.slipway.cache.v1"
    assert config["mounts"] == []
    assert len(manifest["layers"]) == 1
    _build(first, str(source), "-t", "least", "--cache-from", "demo/least:cache")


def test_a_missing_cache_is_a_warning_and_another_image_an_error(
    platforms: list[Running], tmp_path: Path
) -> None:
    source = _source(tmp_path / "source")
    done = platforms[0].command("build", str(source), "-t", "x", "--cache-from", "demo/nothing:1")
    assert b"warning: there is no cache demo/nothing:1" in done.stdout
    done = platforms[0].command("build", str(source), "-t", "y", "--cache-from", "demo/x", ok=False)
    assert done.returncode == 1
    assert b"holds no build cache" in done.stderr
    done = platforms[0].command("build", str(source), "-t", "y", "--cache-to", "mode=min", ok=False)
    assert b"not a cache: 'mode=min'" in done.stderr
