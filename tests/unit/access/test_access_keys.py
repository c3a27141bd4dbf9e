"""The keys that servers share, made at their first start."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from slipway.access import Vault, tokens
from slipway.access.tokens import Grant, RegistryTokens


def test_two_servers_that_begin_at_once_seal_with_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, usual = threading.Barrier(2), Fernet.generate_key

    def key() -> bytes:
        both.wait(60)
        return usual()

    monkeypatch.setattr(Fernet, "generate_key", key)
    for number in range(20):
        with ThreadPoolExecutor(2) as pool:
            one, two = pool.map(Vault, [tmp_path / str(number)] * 2)
        assert two.open(one.seal("secret")) == one.open(two.seal("secret")) == "secret"
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["vault.key"]


def test_two_servers_that_begin_at_once_sign_with_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, usual = threading.Barrier(2), tokens._new_key

    def key() -> bytes:
        both.wait(60)
        return usual()

    monkeypatch.setattr(tokens, "_new_key", key)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: RegistryTokens(tmp_path, "here"), range(2))
    grant = Grant("repository", "lib/x", frozenset({"pull"}))
    assert two.check(one.issue("ann", [grant])) == ("ann", (grant,))
    assert (tmp_path / "registry-token.pem").stat().st_mode & 0o777 == 0o600
