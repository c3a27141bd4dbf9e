"""Pruning the build cache of a running platform."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.platform import Running, write_app

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
HOST = "web.small.demo.localhost"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running.make(tmp_path_factory.mktemp("prune") / "p")
    found.seed_base()
    found.up()
    yield found
    found.down()


def test_what_is_needed_stays(platform: Running, tmp_path: Path) -> None:
    source = write_app(tmp_path / "app", "one")
    platform.command("deliver", str(source))
    assert platform.get_when_ready(HOST) == "version one\n"
    (tmp_path / "cached").mkdir()
    (tmp_path / "cached" / "Dockerfile").write_text(
        "FROM debian:bookworm\nRUN --mount=type=cache,target=/c head -c 100000 /dev/urandom > /c/x\n"
        "RUN head -c 1000 /dev/zero > /big\n"
    )
    platform.command("build", str(tmp_path / "cached"), "-t", "cached")
    assert list(platform.data.glob("cache-mounts/*/0/x"))

    would = platform.json("builds", "prune", "--all", "--dry-run")
    assert would["counts"]["cache mounts"] == 1
    assert list(platform.data.glob("cache-mounts/*/0/x"))
    assert platform.command("builds", "prune", ok=False).returncode == 1

    done = platform.json("builds", "prune", "--all")
    assert done["counts"]["cache records"] > 0
    assert done["bytes"] > 100_000
    assert not list(platform.data.glob("cache-mounts/*"))
    assert platform.get(HOST) == "version one\n"
    platform.command("app", "restart", "small")
    assert platform.get_when_ready(HOST) == "version one\n"
    assert platform.json("image", "inspect", "demo/cached:latest")
    again = platform.command("build", str(tmp_path / "cached"), "-t", "cached").stdout.decode()
    assert "CACHED" not in again
    assert platform.json("builds", "prune", "--older-than", "1", "--keep-storage", "1g")["bytes"] == 0


def test_only_admins_prune(platform: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where a login is remembered
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    with platform.start_command("user", "create", "ada", "--password-stdin") as process:
        process.communicate(b"a-long-password\n")
    with platform.start_command(
        "login", f"http://127.0.0.1:{platform.api_port}", "-u", "ada", "--password-stdin"
    ) as login:
        login.communicate(b"a-long-password\n")
    done = platform.command(
        "--server", f"http://127.0.0.1:{platform.api_port}", "builds", "prune", "--all", ok=False
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
