"""What a platform is told so that the nodes of somebody's cluster reach it."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from slipway.errors import Invalid, Unavailable
from slipway.testing.kubernetes import Cluster
from slipway.testing.kubernetes_reach import is_reached_by, let_reach
from slipway.testing.platform import Running, free_port


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Somebody's, of which nothing is said."""
    for name in ("ADDRESS", "CERTIFICATE", "KEY", "CA"):
        monkeypatch.delenv(f"SLIPWAY_TEST_{name}", raising=False)
    return Cluster(tmp_path / "kubeconfig")


def let(cluster: Cluster, directory: Path) -> Running:
    platform = Running.make(directory)
    let_reach(cluster, platform)
    return platform


def test_it_is_said_where_and_with_which_certificate(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_reached_by(cluster)
    port = free_port()
    monkeypatch.setenv("SLIPWAY_TEST_ADDRESS", f"build.example:{port}")
    assert is_reached_by(cluster)
    plain = let(cluster, tmp_path)
    assert (plain.registry, plain.api_port) == (f"build.example:{port}", port)
    assert plain.environment["SLIPWAY_KUBERNETES_SERVER"] == f"http://build.example:{port}"
    assert plain.environment["SLIPWAY_TLS_CERTIFICATE"] == ""
    for name in ("CERTIFICATE", "KEY"):
        monkeypatch.setenv(f"SLIPWAY_TEST_{name}", f"/{name}")
    secure = let(cluster, tmp_path).environment
    assert secure["SLIPWAY_KUBERNETES_SERVER"] == f"https://build.example:{port}"
    assert (secure["SLIPWAY_TLS_CERTIFICATE"], secure["SLIPWAY_TLS_KEY"]) == ("/CERTIFICATE", "/KEY")


def test_two_at_a_time_have_a_port_each(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("SLIPWAY_TEST_ADDRESS", f"192.0.2.7:{port}")
    with ExitStack() as stack:
        for expected in (port, port + 1):
            assert let(cluster, tmp_path).registry == f"192.0.2.7:{expected}"
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", expected))
            listener.listen()
        with pytest.raises(Unavailable, match=f"ports {port}, {port + 1}"):
            let(cluster, tmp_path)


@pytest.mark.parametrize("address", ["192.0.2.7", "8443", "192.0.2.7:", ":8443", "https://192.0.2.7"])
def test_an_address_that_is_none_is_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("SLIPWAY_TEST_ADDRESS", address)
    with pytest.raises(Invalid, match="SLIPWAY_TEST_ADDRESS"):
        let(cluster, tmp_path)
