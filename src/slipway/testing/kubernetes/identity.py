"""How the cluster's own servers written in Python speak with the API server."""

from __future__ import annotations

import ssl

import aiohttp

from slipway.testing.kubernetes.pki import Authority
from slipway.testing.kubernetes.site import PKI

_FILE = "servers"
_SECONDS = 5.0


def issue(authority: Authority) -> None:
    authority.issue(_FILE, "test-cluster", ["system:masters"])


def connected() -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=str(PKI / "ca.pem"))
    context.load_cert_chain(PKI / f"{_FILE}.pem", PKI / f"{_FILE}-key.pem")
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), timeout=aiohttp.ClientTimeout(_SECONDS)
    )
