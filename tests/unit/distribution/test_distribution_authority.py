"""A registry whose certificate is of an authority of its own."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from slipway.app.local_ca import LocalAuthority
from slipway.distribution import RemoteRegistry
from slipway.errors import Invalid, Unavailable
from slipway.oci import Digest, Reference

_DIGEST = Digest.of(b"manifest")


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The address, and the certificate of its authority."""
    authority = LocalAuthority(tmp_path)
    pem, _ = authority.server_certificate(["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Docker-Content-Digest": str(_DIGEST)})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}", (tmp_path / "ca.pem").read_text()
    await runner.cleanup()


async def test_it_is_trusted_with_its_authority_only(registry: tuple[str, str], tmp_path: Path) -> None:
    host, authority = registry
    wanted = Reference("demo/app", host, "1")
    async with RemoteRegistry(host, secure=True, authority=authority) as remote:
        assert await remote.digest_of(wanted) == _DIGEST
    async with RemoteRegistry(host, secure=True) as remote:
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await remote.digest_of(wanted)
    (tmp_path / "other").mkdir()
    LocalAuthority(tmp_path / "other").server_certificate(["127.0.0.1"])
    other = (tmp_path / "other" / "ca.pem").read_text()
    async with RemoteRegistry(host, secure=True, authority=other) as remote:
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await remote.digest_of(wanted)


async def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(Invalid):
        async with RemoteRegistry("127.0.0.1:1", secure=True, authority="no certificate"):
            pass
