"""``slipway build --ssh``: the agent of whoever builds, also of one who is not on the server's machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.agents import ASK, ssh_agent
from slipway.testing.platform import Running

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs openssh-client"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Running]:
    found = Running.make(tmp_path / "platform")
    found.directory.mkdir()
    found.seed_base()
    found.up()
    try:
        yield found
    finally:
        found.variables.clear()
        found.down()


def as_stranger(platform: Running, directory: Path) -> None:
    """From now on commands are those of a developer who comes over the network, with nothing but a login."""
    for words, text in (
        (("user", "create", "ann", "--password-stdin"), b"correct horse\n"),
        (("project", "add", "demo", "ann", "--role", "developer"), b""),
    ):
        with platform.start_command(*words) as process:
            said = process.communicate(text, timeout=60)
        assert process.returncode == 0, said
    server = f"http://127.0.0.1:{platform.api_port}"
    platform.variables |= {"XDG_CONFIG_HOME": str(directory / "config"), "SLIPWAY_SERVER": server}
    with platform.start_command("login", server, "-u", "ann", "--password-stdin") as process:
        said = process.communicate(b"correct horse\n", timeout=60)
    assert process.returncode == 0, said


def test_a_clients_agent_over_the_api(platform: Running, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "ask.pl").write_text(ASK)
    (source / "Dockerfile").write_text(
        "FROM debian:bookworm\nCOPY ask.pl /\n"
        "RUN --mount=type=ssh perl /ask.pl list > /keys; perl /ask.pl sign; perl /ask.pl clear; "
        "tr -cd 'a-z\\n' < /keys\n"
    )
    as_stranger(platform, tmp_path)
    with ssh_agent(tmp_path, "keyone", "keytwo") as agent:
        said = platform.command(
            "build", str(source), "-t", "a:1", "--ssh", f"default={agent}"
        ).stdout.decode()
        assert "keyone" in said
        assert "keytwo" in said
        assert "| 14" in said
        assert "| 5" in said
        named = f"default={agent},{tmp_path / 'keytwo.pub'}"
        said = platform.command(
            "build", str(source), "-t", "a:2", "--no-cache", "--ssh", named
        ).stdout.decode()
        assert "keyone" not in said
        assert "keytwo" in said
        assert "| 14" in said
    log = "".join(path.read_text() for path in platform.data.glob("builds/*.jsonl"))
    assert "ssh.ask" not in log, "what an agent is asked is between the step and its caller"
