"""FROM an image of another registry: Debian's docker-registry, filled by skopeo."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.platform import Running, free_port, write_app
from slipway.testing.registries import debian_registry

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]


@pytest.fixture
def other_registry(tmp_path: Path) -> Iterator[str]:
    with debian_registry(tmp_path / "other") as host:
        yield host


def test_a_build_stands_on_an_image_of_another_registry(other_registry: str, tmp_path: Path) -> None:
    platform = Running.make(tmp_path / "platform")
    platform.directory.mkdir()
    platform.seed_base()
    platform.up()
    try:
        platform.start_command("user", "create", "ada", "--admin", "--password-stdin").communicate(
            b"correct horse\n"
        )
        words = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"]
        ours = f"docker://127.0.0.1:{platform.api_port}/library/debian:bookworm"
        theirs = f"docker://{other_registry}/small/base:1"
        subprocess.run(
            [*words, "--src-creds", "ada:correct horse", ours, theirs], check=True, capture_output=True
        )

        source = write_app(tmp_path / "app", "1")
        dockerfile = source / "Dockerfile"
        dockerfile.write_text(
            dockerfile.read_text().replace("debian:bookworm", f"{other_registry}/small/base:1")
        )
        platform.command("deliver", str(source))
        assert platform.get_when_ready("web.small.demo.localhost") == "version 1\n"

        dockerfile.write_text(f"FROM {other_registry}/small/none:1\n")
        done = platform.command("deliver", str(source), ok=False)
        assert done.returncode == 1
        assert "does not exist" in done.stderr.decode()
        dockerfile.write_text(f"FROM 127.0.0.1:{free_port()}/small/base:1\n")
        done = platform.command("deliver", str(source), ok=False)
        assert "does not answer" in done.stderr.decode()
    finally:
        platform.down()
