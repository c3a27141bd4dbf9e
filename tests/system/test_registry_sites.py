"""Sites through the command line: other registries as targets and sources, two platforms that hold the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
SECRET = "correct horse"


@pytest.fixture(scope="module")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Running]]:
    found = []
    for name in ("a", "b"):
        directory = tmp_path_factory.mktemp("sites") / name
        directory.mkdir()
        running = Running.make(directory)
        running.up()
        given = ("user", "create", "replicator", "--admin", "--password-stdin")
        running.start_command(*given).communicate(f"{SECRET}\n".encode())
        found.append(running)
    yield found
    for item in found:
        item.down()


def build(platform: Running, name: str, text: str) -> str:
    """An image of one file; its digest."""
    source = platform.directory / f"source-{name.replace(':', '-')}"
    source.mkdir(exist_ok=True)
    (source / "text").write_text(text)
    (source / "Dockerfile").write_text("FROM scratch\nCOPY text /text\n")
    lines = platform.command("--output", "json", "build", str(source), "-t", name).stdout.splitlines()
    found: str = json.loads(lines[-1])["result"]["digest"]
    return found


def add(platform: Running, name: str, url: str, *words: str, user: str = "replicator") -> None:
    process = platform.start_command("site", "add", name, url, "-u", user, "--password-stdin", *words)
    out, err = process.communicate(f"{SECRET}\n".encode(), timeout=60)
    assert process.returncode == 0, (out, err)


def until(check: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.2)


def digest(platform: Running, reference: str) -> str:
    done = platform.command("--output", "json", "image", "inspect", reference, ok=False)
    return str(json.loads(done.stdout)["digest"]) if done.returncode == 0 else ""


def skopeo(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["skopeo", *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_any_registry_is_a_target(platforms: list[Running], tmp_path: Path) -> None:
    first, _ = platforms
    wanted = build(first, "out:1", "one")
    with debian_registry(tmp_path / "registry", ("replicator", SECRET)) as address:
        add(
            first,
            "mirror",
            f"http://{address}",
            "--prefix",
            "copy",
            "--repository",
            "demo/out",
            "--deletions",
        )
        shown = skopeo_digest(address, "copy/demo/out:1")
        until(lambda: shown() == wanted)
        until(lambda: first.json("site", "show", "mirror")["state"] == "in step")
        site = first.json("site", "show", "mirror")
        assert (site["kind"], site["pending"], site["error"]) == ("registry", 0, "")
        assert site["images"] >= 1
        assert "mirror" in first.command("site", "ls").stdout.decode()
        assert metrics(first) == {"slipway_site_lag_seconds": 0.0, "slipway_site_pending_changes": 0.0}
    build(first, "out:2", "two")
    done = first.command("site", "sync", "mirror", ok=False)
    assert done.returncode == 1
    assert b"does not answer" in done.stdout
    until(lambda: first.json("site", "show", "mirror")["pending"] >= 1)
    until(lambda: metrics(first)["slipway_site_lag_seconds"] > 0.5)
    assert metrics(first)["slipway_site_pending_changes"] >= 1
    first.command("site", "rm", "mirror")


def metrics(platform: Running) -> dict[str, float]:
    """What is measured of the site ``mirror``."""
    words = ["curl", "-sS", "--fail", "--unix-socket", str(platform.directory / "run" / "slipway.sock")]
    done = subprocess.run(
        [*words, "http://localhost/api/v1/metrics"], capture_output=True, text=True, check=True, timeout=60
    )
    found = re.findall(r'^(\w+)\{site="mirror"\} (\S+)$', done.stdout, re.MULTILINE)
    return {name: float(value) for name, value in found}


def skopeo_digest(address: str, name: str) -> Callable[[], str]:
    def shown() -> str:
        words = [
            "skopeo",
            "inspect",
            "--tls-verify=false",
            "--creds",
            f"replicator:{SECRET}",
            "--format",
            "{{.Digest}}",
        ]
        done = subprocess.run(
            [*words, f"docker://{address}/{name}"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return shown


def test_any_registry_is_a_source(platforms: list[Running], tmp_path: Path) -> None:
    first, _ = platforms
    wanted = build(first, "origin:1", "one")
    first.command("image", "export", "demo/origin:1", "-o", str(tmp_path / "image.tar"))
    with debian_registry(tmp_path / "registry", ("replicator", SECRET)) as address:
        words = (
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--dest-creds",
            f"replicator:{SECRET}",
        )
        for tag in ("1", "2", "other"):
            skopeo(*words, f"oci-archive:{tmp_path / 'image.tar'}", f"docker://{address}/team/app:{tag}")
        options = ("--pull", "--into", "taken", "--tag", "[0-9]", "--every", "3600", "--deletions")
        add(first, "source", f"http://{address}", *options)
        until(lambda: digest(first, "taken/team/app:2") == wanted)
        names = {item["tag"] for item in first.json("image", "ls", "--project", "taken")}
        assert names == {"1", "2"}
        first.command("site", "sync", "source")
        first.command("site", "rm", "source")


def test_two_primaries_hold_the_same(platforms: list[Running]) -> None:
    first, second = platforms
    for one, other, name in ((first, second, "b"), (second, first, "a")):
        add(one, name, f"http://127.0.0.1:{other.api_port}", "--repository", "demo/app", "--deletions")
    here = build(first, "app:from-a", "a")
    there = build(second, "app:from-b", "b")
    until(lambda: digest(second, "demo/app:from-a") == here)
    until(lambda: digest(first, "demo/app:from-b") == there)
    assert (
        second.json("image", "inspect", "demo/app:from-a")["referrers"] != []
    )  # SBOM and signature came along
    build(first, "app:latest", "one")
    until(lambda: digest(first, "demo/app:latest") == digest(second, "demo/app:latest") != "")
    latest = build(second, "app:latest", "two")
    until(lambda: digest(first, "demo/app:latest") == latest)
    assert first.json("site", "conflicts") == second.json("site", "conflicts") == []
    first.command("image", "rm", "demo/app:latest")
    until(lambda: digest(second, "demo/app:latest") == "")
    for one, name in ((first, "b"), (second, "a")):
        until(lambda one=one, name=name: one.json("site", "show", name)["state"] == "in step")  # type: ignore[misc]
        one.command("site", "rm", name)
