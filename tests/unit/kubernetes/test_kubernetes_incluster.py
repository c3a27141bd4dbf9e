"""The cluster that a server runs in, by the account of its Pod."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import Invalid
from slipway.kubernetes import own_endpoint


def test_the_account_of_the_pod_is_used_and_its_token_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").write_text("a certificate")
    (tmp_path / "token").write_text("first\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = own_endpoint(tmp_path)
    assert (found.server, found.authority) == ("https://10.96.0.1:443", "a certificate")
    assert found.authorization == "Bearer first"
    (tmp_path / "token").write_text("second\n")
    assert found.authorization == "Bearer second"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert own_endpoint(tmp_path).server == "https://[fd00::1]:443"


@pytest.mark.parametrize("host", ["", "10.96.0.1"])
def test_elsewhere_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    with pytest.raises(Invalid, match="does not run in a cluster"):
        own_endpoint(tmp_path)
