"""Kubeconfigs from strangers: what is used, and what a server must never do with them."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from slipway.base.clock import now
from slipway.errors import Invalid, NotFound, SlipwayError, Unsupported
from slipway.kubernetes import read_kubeconfig
from slipway.testing.api_server import kubeconfig

SERVER = "https://10.0.0.1:6443"


def pair() -> tuple[str, str]:
    """A certificate and its key, each as base64 of PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now()).not_valid_after(now() + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(certificate).decode(), base64.b64encode(pem).decode()


def test_certificates_in_the_text_are_used_without_a_file() -> None:
    certificate, key = pair()
    text = kubeconfig(
        {"server": SERVER + "/", "certificate-authority-data": certificate},
        {"client-certificate-data": certificate, "client-key-data": key},
    )
    found = read_kubeconfig(text)
    assert (found.server, found.authorization) == (SERVER, "")
    context = found.ssl_context()
    assert context is not None
    assert context.cert_store_stats()["x509"] == 1, "the system's authorities are not asked"
    assert "PRIVATE" not in repr(found)


def test_a_token_and_a_password_become_a_header() -> None:
    assert read_kubeconfig(kubeconfig({"server": SERVER}, {"token": "t\n"})).authorization == "Bearer t"
    named = read_kubeconfig(kubeconfig({"server": SERVER}, {"username": "u", "password": "p"}))
    assert named.authorization == "Basic dTpw"
    assert "dTpw" not in repr(named)


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"command": "/bin/sh", "args": ["-c", "touch /tmp/owned"]}},
        {"exec": {"command": "x"}, "token": "t"},
        {"auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/sh"}}},
        {"tokenFile": "/etc/shadow"},
        {"client-certificate": "/etc/ssl/cert.pem", "client-key": "/root/.ssh/id_rsa"},
        {"token": "t", "as": "system:admin"},
    ],
)
def test_nothing_is_run_or_read_for_a_kubeconfig(user: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as caught:
        read_kubeconfig(kubeconfig({"server": SERVER}, user))
    assert "user" in caught.value.message


def test_an_authority_by_path_is_refused_with_what_to_do() -> None:
    with pytest.raises(Unsupported) as caught:
        read_kubeconfig(kubeconfig({"server": SERVER, "certificate-authority": "/etc/passwd"}, {}))
    assert "certificate-authority-data" in caught.value.hint


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({"server": "file:///etc/passwd"}, {}),
        ({"server": "https://user:pw@10.0.0.1"}, {}),
        ({"server": "http://10.0.0.1:8080"}, {"token": "in the clear"}),
        ({"server": SERVER}, {"token": "a\r\nX-Evil: 1"}),
        ({"server": SERVER}, {"client-certificate-data": "e30="}),
        ({"server": SERVER, "certificate-authority-data": "!"}, {}),
        ({"server": ["a"]}, {}),
        ({}, {}),
    ],
)
def test_what_makes_no_sense_is_refused(cluster: dict[str, Any], user: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        read_kubeconfig(kubeconfig(cluster, user))


def test_a_certificate_that_is_none_is_said_so() -> None:
    junk = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n").decode()
    with pytest.raises(Invalid):
        read_kubeconfig(kubeconfig({"server": SERVER, "certificate-authority-data": junk}, {})).ssl_context()


def test_another_context_is_chosen_by_name() -> None:
    document = yaml.safe_load(kubeconfig({"server": SERVER}, {}))
    document["contexts"].append({"name": "there", "context": {"cluster": "d", "namespace": "n"}})
    document["clusters"].append({"name": "d", "cluster": {"server": "https://there"}})
    text = yaml.safe_dump(document)
    found = read_kubeconfig(text, "there")
    assert (found.server, found.namespace) == ("https://there", "n")
    with pytest.raises(NotFound) as caught:
        read_kubeconfig(text, "elsewhere")
    assert "here, there" in caught.value.hint


@given(
    st.text(max_size=200) | st.from_regex(r"(clusters|contexts|users|current-context): .*", fullmatch=True)
)
def test_any_text_is_a_kubeconfig_or_an_error(text: str) -> None:
    with pytest.raises(SlipwayError):
        read_kubeconfig(text)
