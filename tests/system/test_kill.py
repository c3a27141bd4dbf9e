"""The server is killed at random points of deliveries: it comes back, nothing is half done, nothing leaks."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from slipway.content import LocalStore
from slipway.testing.platform import Running, footprint, write_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(1500),
]
HOST = "web.small.demo.localhost"
KILLS = 30


def test_killed_at_any_instant_it_comes_back(tmp_path: Path) -> None:
    rng = random.Random(20)
    platform = Running.make(tmp_path)
    platform.seed_base()
    platform.up()
    source = write_app(tmp_path / "app", "0")
    platform.command("deliver", str(source))
    assert platform.get_when_ready(HOST) == "version 0\n"
    versions = {"version 0\n"}
    for number in range(1, KILLS + 1):
        write_app(source, str(number))
        versions.add(f"version {number}\n")
        # Every third build runs its first step again, so that workers are hit as well.
        (source / "Dockerfile").write_text(_dockerfile(number))
        delivery = platform.start_command("deliver", str(source))
        time.sleep(rng.uniform(0.05, 2.0))
        platform.kill()
        delivery.communicate(timeout=60)
        assert platform.get_when_ready(HOST) in versions  # containers kept serving meanwhile
        platform.up()
        assert platform.get_when_ready(HOST) in versions
        platform.mark()
        _nothing_half_done(platform)
    write_app(source, "last")
    platform.command("deliver", str(source))
    assert platform.get(HOST) == "version last\n"
    _settled(platform)
    assert list(LocalStore(platform.data / "content").fsck()) == []
    platform.down()
    assert platform.traces() == set()


def _dockerfile(number: int) -> str:
    step = f"RUN seq 1 {200_000 + number // 3} > /srv/numbers\n"
    return f'FROM debian:bookworm\n{step}COPY app.pl /srv/\nCMD ["perl", "/srv/app.pl"]\n'


def _nothing_half_done(platform: Running) -> None:
    """What a start of the server must have put in order."""
    assert [item for item in platform.json("builds", "ls") if item["state"] in ("queued", "running")] == []
    assert [item for item in platform.json("app", "releases", "small") if item["status"] == "pending"] == []
    content = platform.data / "content"
    assert [path for part in ("ingest", "leases") for path in (content / part).iterdir()] == []
    assert list((platform.data / "snapshots" / "active").iterdir()) == []


def _settled(platform: Running) -> None:
    """After a while exactly the wanted instance runs, and containers that nobody knows are gone."""
    end = time.monotonic() + 60
    while True:
        shown = platform.json("app", "show", "small")
        known = {item["id"] for item in shown["instances"]}
        there = {path.name for path in (platform.data / "containers").iterdir()}
        if len(known) == 1 and there == known and shown["state"] == "serving":
            return
        assert time.monotonic() < end, (shown, there)
        time.sleep(0.5)


def test_a_build_can_be_cancelled_within_a_second(tmp_path: Path) -> None:
    platform = Running.make(tmp_path)
    platform.seed_base()
    platform.up()
    try:
        source = write_app(tmp_path / "app", "0")
        (source / "Dockerfile").write_text("FROM debian:bookworm\nRUN sleep 600\n")
        took: list[float] = []  # on a machine with other work, in one of a few attempts
        while not took or (min(took) >= 2 and len(took) < 5):
            took.append(_cancelling(platform, str(source)))
        assert min(took) < 2, took  # the command line's own start included
    finally:
        platform.down()


def _cancelling(platform: Running, source: str) -> float:
    build = platform.start_command("build", source, "-t", "sleeper")
    while not (found := [item for item in platform.json("builds", "ls") if item["state"] == "running"]):
        time.sleep(0.1)
    time.sleep(0.5)
    began = time.monotonic()
    platform.command("builds", "cancel", found[0]["id"])
    took = time.monotonic() - began
    build.communicate(timeout=60)
    assert build.returncode == 1
    assert platform.json("builds", "show", found[0]["id"])["state"] == "cancelled"
    assert not [line for line in footprint() if "group" in line and found[0]["id"] in line]
    return took
