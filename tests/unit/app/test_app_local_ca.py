"""The server's own authority: renewed when it must be, whole after a crash, verified as clients do."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from slipway.app import local_ca
from slipway.app.local_ca import LocalAuthority, check_names
from slipway.app.settings import Settings, load
from slipway.app.tls import ServerTls, authority_certificate, names_of, tls_of
from slipway.errors import Invalid

NAMES = ("127.0.0.1", "localhost", "host.example", "fd00::1")


def _accepts(authority: Path, server: Path, name: str) -> bool:
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(server)
    return _believes(authority, accepting, name)


def _believes(authority: Path, accepting: ssl.SSLContext, name: str) -> bool:
    """Whether a client that trusts ``authority`` takes the server to be ``name``: a handshake in memory."""
    asking = ssl.create_default_context(cafile=str(authority))
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        accepting.wrap_bio(one, two, server_side=True),
        asking.wrap_bio(two, one, server_hostname=name),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return True


def test_clients_that_trust_the_authority_believe_the_server(tmp_path: Path) -> None:
    authority = LocalAuthority(tmp_path / "ca")
    server, made = authority.server_certificate(NAMES)
    assert made
    assert all(_accepts(authority.certificate, server, name) for name in NAMES)
    assert not _accepts(authority.certificate, server, "other.example")
    other = LocalAuthority(tmp_path / "other")
    other.server_certificate(NAMES)
    assert not _accepts(other.certificate, server, "localhost")
    assert [path.stat().st_mode & 0o777 for path in (server, tmp_path / "ca/ca-key.pem")] == [0o600, 0o600]
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    found = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    assert (
        timedelta(days=3640) < found.not_valid_after_utc - found.not_valid_before_utc < timedelta(days=3660)
    )


def test_a_certificate_is_made_again_only_when_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = LocalAuthority(tmp_path)
    authority.server_certificate(NAMES)
    trusted = authority.certificate.read_bytes()
    assert not authority.server_certificate(reversed(NAMES))[1]
    assert authority.server_certificate([*NAMES, "new.example"])[1]
    monkeypatch.setattr(local_ca, "SERVER_LIFETIME", timedelta(days=29))
    assert authority.server_certificate(NAMES)[1]
    assert authority.server_certificate(NAMES)[1]
    monkeypatch.undo()
    assert authority.server_certificate(NAMES)[1]
    assert not authority.server_certificate(NAMES)[1]
    assert authority.certificate.read_bytes() == trusted


def test_an_old_authority_is_renewed_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = LocalAuthority(tmp_path)
    monkeypatch.setattr(local_ca, "CA_LIFETIME", timedelta(days=20))
    server, _ = authority.server_certificate(NAMES)
    old = tmp_path / "old.pem"
    old.write_bytes(authority.certificate.read_bytes())
    monkeypatch.undo()
    server, _ = authority.server_certificate(NAMES)
    assert old.read_bytes() != authority.certificate.read_bytes()
    assert _accepts(authority.certificate, server, "localhost")
    assert _accepts(old, server, "localhost")


@pytest.mark.parametrize("lost", ["ca.pem", "ca-key.pem", "server.pem"])
def test_what_a_crash_left_out_is_made(tmp_path: Path, lost: str) -> None:
    authority = LocalAuthority(tmp_path)
    authority.server_certificate(NAMES)
    (tmp_path / lost).unlink()
    server, _ = authority.server_certificate(NAMES)
    assert _accepts(authority.certificate, server, "localhost")


def test_names_are_checked() -> None:
    assert check_names(["Host.Example.", "[::1]", "", "::1", "*.example"]) == (
        "host.example",
        "::1",
        "*.example",
    )
    for bad in ("http://x", "a b", "ü.example", "a..b", "x/y"):
        with pytest.raises(Invalid):
            check_names([bad])


def _settings(tmp_path: Path, *flags: str) -> Settings:
    return load(None, {"SLIPWAY_DATA": str(tmp_path)}, flags)


def test_settings_decide(tmp_path: Path) -> None:
    plain = _settings(tmp_path)
    assert tls_of(plain) is None
    assert plain.url == "http://127.0.0.1:7070"
    local = _settings(tmp_path, "tls.local_ca=on", "tls.names=a.example, b.example", "listen=0.0.0.0:7443")
    assert {"127.0.0.1", "localhost", "a.example", "b.example"} <= set(names_of(local))
    assert "0.0.0.0" not in names_of(local)
    assert tls_of(local) is not None
    found = authority_certificate(local)
    assert found is not None
    assert found.exists()
    assert local.url == "https://0.0.0.0:7443"
    with pytest.raises(Invalid, match="together"):
        tls_of(_settings(tmp_path, "tls.certificate=/x"))
    with pytest.raises(Invalid, match="cannot be used"):
        tls_of(_settings(tmp_path, "tls.certificate=/x", "tls.key=/y"))


def test_clients_get_the_authority_of_a_certificate_from_elsewhere_when_it_is_named(tmp_path: Path) -> None:
    authority = LocalAuthority(tmp_path / "site")
    pair, _ = authority.server_certificate(NAMES)
    given = (f"tls.certificate={pair}", f"tls.key={pair}")
    assert authority_certificate(_settings(tmp_path, *given, "tls.local_ca=on")) is None
    named = _settings(tmp_path, *given, f"tls.ca={authority.certificate}")
    assert tls_of(named) is not None
    assert authority_certificate(named) == authority.certificate
    with pytest.raises(Invalid, match=r"tls\.ca = .*/nothing cannot be used"):
        tls_of(_settings(tmp_path, *given, f"tls.ca={tmp_path / 'nothing'}"))
    with pytest.raises(Invalid, match=r"without tls\.certificate"):
        tls_of(_settings(tmp_path, "tls.local_ca=on", f"tls.ca={authority.certificate}"))


def test_a_certificate_that_was_replaced_is_loaded_and_a_pair_that_does_not_fit_is_not(
    tmp_path: Path,
) -> None:
    first, _ = LocalAuthority(tmp_path / "one").server_certificate(NAMES)
    second, _ = LocalAuthority(tmp_path / "two").server_certificate(NAMES)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    for path in (certificate, key):
        path.write_bytes(first.read_bytes())
    tls = ServerTls(_settings(tmp_path, f"tls.certificate={certificate}", f"tls.key={key}"))
    certificate.write_bytes(second.read_bytes())
    with pytest.raises(Invalid, match="cannot be used"):
        tls.refresh()
    assert _believes(tmp_path / "one/ca.pem", tls.context, "localhost")
    key.write_bytes(second.read_bytes())
    tls.refresh()
    assert _believes(tmp_path / "two/ca.pem", tls.context, "localhost")
    tls.refresh()
