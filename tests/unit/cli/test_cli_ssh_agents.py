"""What --ssh takes, and what this side of a forwarded agent lets through."""

from __future__ import annotations

import base64
import shutil
import struct
from pathlib import Path

import pytest

from slipway.cli.secrets import read_agents
from slipway.client.ssh_agent import FAILURE, SshAgent
from slipway.errors import Invalid
from slipway.testing.agents import ssh_agent

pytestmark = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs openssh-client")
LIST = bytes([11])


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def signing(public: Path) -> bytes:
    key = base64.b64decode(public.read_text().split()[1])
    return bytes([13]) + framed(key) + framed(b"some data") + struct.pack(">I", 0)


def test_an_agent_lists_and_signs_and_nothing_else(tmp_path: Path) -> None:
    with ssh_agent(tmp_path, "one", "two") as path:
        agent = SshAgent.named([str(path)], "")
        said = agent.answer(LIST)
        assert said[0] == 12
        assert b"one" in said
        assert b"two" in said
        assert agent.answer(signing(tmp_path / "one.pub"))[0] == 14
        for message in (bytes([19]), bytes([17]) + b"x", bytes([27]) + framed(b"ext"), LIST + b"more", b""):
            assert agent.answer(message) == FAILURE
        assert agent.answer(LIST) == said


def test_of_named_keys_no_other_is_seen_or_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_agent(tmp_path, "one", "two") as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        agent = read_agents([f"default={tmp_path / 'one.pub'}"])["default"]
        said = agent.answer(LIST)
        assert said[:5] == bytes([12, 0, 0, 0, 1])
        assert b"one" in said
        assert b"two" not in said
        assert agent.answer(signing(tmp_path / "one.pub"))[0] == 14
        assert agent.answer(signing(tmp_path / "two.pub")) == FAILURE


def test_only_a_socket_or_a_public_key_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    with pytest.raises(Invalid, match="neither an agent's socket nor a public key") as caught:
        read_agents([f"default={tmp_path / 'key'}"])
    assert "ssh-add" in caught.value.hint
    with pytest.raises(Invalid, match="cannot be read"):
        read_agents([f"default={tmp_path / 'nothing'}"])
    with pytest.raises(Invalid, match="no SSH agent in this shell"):
        read_agents(["default"])
    with pytest.raises(Invalid, match="not an SSH agent"):
        read_agents(["=x"])
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    with pytest.raises(Invalid, match="no SSH agent at"):
        read_agents(["default"])


def test_an_agent_that_has_gone_fails(tmp_path: Path) -> None:
    assert SshAgent(str(tmp_path / "gone")).answer(LIST) == FAILURE
