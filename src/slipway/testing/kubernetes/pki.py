"""The cluster's certificate authority, its certificates and the kubeconfig files made of them."""

from __future__ import annotations

import datetime
import ipaddress
import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAYS = 30


class Authority:
    """A certificate authority below ``directory``, made when it is not there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate, self.key = directory / "ca.pem", directory / "ca-key.pem"
        if self.certificate.exists():
            loaded = serialization.load_pem_private_key(self.key.read_bytes(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            self._key = loaded
            self._certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            return
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._key = write_key(self.key)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slipway test cluster")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        self._certificate = (
            _dated(name, name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, file: str, user: str, groups: Sequence[str] = (), names: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """The certificate and key files of ``user``, who is in ``groups``; with ``names`` (hosts, addresses) it can be
        a server's too. What was issued before under ``file`` is replaced."""
        certificate, key = self.directory / f"{file}.pem", self.directory / f"{file}-key.pem"
        own = write_key(key)
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if names else [])
        builder = _dated(x509.Name(subject), self._certificate.subject, own).add_extension(
            x509.ExtendedKeyUsage(usage), critical=False
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_name(text) for text in names]), False
            )
        signed = builder.sign(self._key, hashes.SHA256())
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return certificate, key

    def kubeconfig(self, path: Path, server: str, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for ``user`` with everything inside, so that it can be copied anywhere."""
        certificate, key = self.issue(path.stem, user, groups)
        cluster = {"server": server, "certificate-authority-data": _data(self.certificate)}
        login = {"client-certificate-data": _data(certificate), "client-key-data": _data(key)}
        text = json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": user, "user": login}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                "current-context": "test",
            },
            indent=1,
        )
        path.touch(mode=0o600)
        path.write_text(text)
        return path


def write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A new private key in the file ``path``."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    return key


def _dated(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), start,
        start + datetime.timedelta(days=_DAYS),
    )  # fmt: skip


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _data(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()
