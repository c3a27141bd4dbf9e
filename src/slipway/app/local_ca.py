"""A certificate authority of this server's own, for sites that have none.

Below its directory: ``ca.pem`` (what clients trust), ``ca-key.pem``, and ``server.pem``, the server's key with the
certificate signed for it. Keys are readable by root only; each file is replaced in one step, and a certificate is
always made from the key that is there, so a crash in between leaves nothing that does not fit.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from slipway.base.clock import now
from slipway.base.files import atomic_write
from slipway.errors import Invalid

CA_LIFETIME = timedelta(days=3652)
SERVER_LIFETIME = timedelta(days=397)
RENEWAL = timedelta(days=30)
_SLACK = timedelta(minutes=5)
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9])?", re.ASCII)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Host names and addresses in one form, each once. Raises ``Invalid`` for what is neither."""
    found: dict[str, None] = {}
    for name in names:
        text = name.strip().strip("[]").lower().rstrip(".")
        if not text:
            continue
        try:
            text = str(ipaddress.ip_address(text))
        except ValueError:
            if not _NAME.fullmatch(text) or ".." in text:
                raise Invalid(
                    f"not a host name or an address: {name[:100]!r}",
                    hint="tls.names is a list like slipway.example,10.0.0.5",
                ) from None
        found[text] = None
    return tuple(found)


class LocalAuthority:
    """Signs the certificate of one server."""

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "ca.pem"
        self._directory = directory
        self._key = directory / "ca-key.pem"
        self._server = directory / "server.pem"

    def server_certificate(self, names: Iterable[str]) -> tuple[Path, bool]:
        """The file with the server's key and certificate, and whether it was made just now.

        It is made when there is none, when it expires within ``RENEWAL``, when ``names`` are others than its own and
        when the authority is another.
        """
        wanted = check_names(names)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key, certificate = self._authority()
        if self._serves(wanted, certificate):
            return self._server, False
        own = ec.generate_private_key(ec.SECP256R1())
        made = _sign_server(wanted, own.public_key(), key, certificate)
        atomic_write(self._server, _pem_of(own) + made.public_bytes(serialization.Encoding.PEM), 0o600)
        return self._server, True

    def _authority(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        if not self._key.exists():
            atomic_write(self._key, _pem_of(ec.generate_private_key(ec.SECP256R1())), 0o600)
        key = serialization.load_pem_private_key(self._key.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Invalid(f"{self._key} is not an EC key", hint="remove the directory to begin anew")
        found = _read(self.certificate)
        if found is None or found.public_key() != key.public_key() or _ends_soon(found):
            found = _sign_authority(key, found.subject if found else _new_name())
            atomic_write(self.certificate, found.public_bytes(serialization.Encoding.PEM), 0o644)
        return key, found

    def _serves(self, names: tuple[str, ...], authority: x509.Certificate) -> bool:
        found = _read(self._server)
        if found is None or _ends_soon(found):
            return False
        try:
            found.verify_directly_issued_by(authority)
        except Exception:  # it says so in several ways
            return False
        return set(_names_of(found)) == set(names)


def _read(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _ends_soon(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc - now() < RENEWAL


def _names_of(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _new_name() -> x509.Name:
    # Two servers' authorities may end up in one trust store: their names differ.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Slipway local CA {secrets.token_hex(4)}")])


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - _SLACK)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _sign_authority(key: ec.EllipticCurvePrivateKey, name: x509.Name) -> x509.Certificate:
    return (
        _begin(name, name, key.public_key(), now() + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _sign_server(
    names: tuple[str, ...],
    public: ec.EllipticCurvePublicKey,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    end = min(now() + SERVER_LIFETIME, authority.not_valid_after_utc)
    return (
        _begin(subject, authority.subject, public, end)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
