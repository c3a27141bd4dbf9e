"""A full disk and a taken port: clear words, exit code 1, nothing lost."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.content import LocalStore
from slipway.testing.platform import Running, write_app

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]
HOST = "web.small.demo.localhost"
MEBIBYTE = 1 << 20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 420 MiB: room for a base image and one app, and not much more."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # sockets need short names
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=420m", "disk", directory], check=True)
        yield Path(directory)
        subprocess.run(["umount", "-l", directory], check=True)


def test_a_full_disk_fails_the_delivery_and_nothing_else(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "platform").mkdir()
    platform = Running.make(small_disk / "platform")
    platform.seed_base()
    platform.up()
    try:
        source = write_app(tmp_path / "app", "1")
        platform.command("deliver", str(source))
        assert platform.get_when_ready(HOST) == "version 1\n"

        (source / "Dockerfile").write_text("FROM debian:bookworm\nRUN head -c 600M /dev/urandom > /big\n")
        done = platform.command("deliver", str(source), ok=False)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr.decode()

        with (source / "big").open("wb") as handle:
            for _ in range(400):
                handle.write(os.urandom(MEBIBYTE))
        (source / "Dockerfile").write_text("FROM debian:bookworm\nCOPY big /\n")
        done = platform.command("deliver", str(source), ok=False)
        assert done.returncode == 1
        assert "disk" in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()

        assert platform.get(HOST) == "version 1\n"
        assert list(LocalStore(platform.data / "content").fsck()) == []
        (source / "big").unlink()
        write_app(source, "2")
        platform.command("deliver", str(source))
        assert platform.get(HOST) == "version 2\n"
    finally:
        platform.down()


@pytest.mark.parametrize("taken", ["api", "apps"])
def test_a_port_in_use_is_named(tmp_path: Path, taken: str) -> None:
    platform = Running.make(tmp_path / "platform")
    platform.directory.mkdir()
    port = platform.api_port if taken == "api" else platform.apps_port
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        try:
            if taken == "api":
                done = platform.command("up", ok=False)
            else:
                platform.seed_base()
                platform.up()
                done = platform.command("deliver", str(write_app(tmp_path / "app", "1")), ok=False)
        finally:
            platform.down()
    assert done.returncode == 1
    text = done.stderr.decode()
    assert f"127.0.0.1:{port}" in text
    assert "in use" in text
    assert "Traceback" not in text
