"""Which server the command line talks to."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from slipway.client.credentials import Credentials


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SLIPWAY_SERVER", "SLIPWAY_TOKEN", "SLIPWAY_CA", "SLIPWAY_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_socket_where_the_server_was_told_to_have_it_wins_over_a_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Credentials("https://far.example:7070", "swp_1").save()
    monkeypatch.setenv("SLIPWAY_RUN", str(tmp_path))
    assert Credentials.load() == Credentials("https://far.example:7070", "swp_1")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "slipway.sock"))
        assert Credentials.load() == Credentials(f"unix://{tmp_path}/slipway.sock")


def test_what_is_asked_for_wins_over_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Credentials("https://far.example:7070", "swp_1").save()
    monkeypatch.setenv("SLIPWAY_SERVER", "https://other.example:7070")
    monkeypatch.setenv("SLIPWAY_TOKEN", "swp_2")
    assert Credentials.load() == Credentials("https://other.example:7070", "swp_2")
    monkeypatch.delenv("SLIPWAY_TOKEN")
    assert Credentials.load("https://far.example:7070") == Credentials("https://far.example:7070", "swp_1")
