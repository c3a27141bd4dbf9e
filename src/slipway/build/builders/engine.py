"""A Docker daemon, over its Engine API."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from slipway.base.reading import read_up_to
from slipway.errors import Conflict, Failed, Invalid, NotFound, SlipwayError, Unavailable

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_connect=15)
_MAX_ANSWER, _MAX_LINE = 16 * 1024 * 1024, 1024 * 1024
_PIECE = 1024 * 1024


class Engine:
    """One daemon, for the length of an ``async with`` block. No version is named, so it speaks its own."""

    def __init__(self, address: str, tls: str = "") -> None:
        self.address = address
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Engine:
        parts = urlsplit(self.address)
        if parts.scheme == "unix":
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(parts.path)
            self._base = "http://docker"
        else:
            context = await asyncio.to_thread(_context, Path(self._tls)) if self._tls else None
            connector = aiohttp.TCPConnector(ssl=context) if context else aiohttp.TCPConnector()
            self._base = f"{'https' if context else 'http'}://{parts.netloc}"
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> Any:
        """A request with a JSON answer (``None`` for an empty one)."""
        async with self._request(method, path, query, json=body) as response:
            data = await read_up_to(response.content, _MAX_ANSWER)
        try:
            return json.loads(data) if data.strip() else None
        except ValueError as error:
            raise Invalid(f"the daemon at {self.address} sent something that is no JSON") from error

    async def events(
        self, path: str, query: Mapping[str, str], content: AsyncIterable[bytes]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The lines of a long answer to an upload of a tar."""
        headers = {"Content-Type": "application/x-tar"}
        async with self._request("POST", path, query, data=content, headers=headers) as response:
            rest = b""
            async for piece in response.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > _MAX_LINE:
                    raise Invalid(f"the daemon at {self.address} sent a line of more than {_MAX_LINE} bytes")
                for line in (*lines, b""):
                    if line.strip():
                        yield _object(line, self.address)
            if rest.strip():
                yield _object(rest, self.address)

    async def download(self, path: str) -> AsyncGenerator[bytes, None]:
        async with self._request("GET", path, None) as response:
            async for piece in response.content.iter_chunked(_PIECE):
                yield piece

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, query: Mapping[str, str] | None, **values: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        try:
            async with self._session.request(
                method, f"{self._base}{path}", params=dict(query or {}), **values
            ) as response:
                if response.status >= 400:
                    raise await _error(response)
                yield response
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unavailable(
                f"the Docker daemon at {self.address} does not answer: {error or type(error).__name__}",
                hint="is it running, and may the server reach it?",
            ) from error


async def _error(response: aiohttp.ClientResponse) -> SlipwayError:
    data = await read_up_to(response.content, 65536)
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data.decode(errors="replace").strip() or str(response.reason)
    kind = {400: Invalid, 404: NotFound, 409: Conflict}.get(response.status, Failed)
    return kind(f"the Docker daemon says: {message[:1000]}")


def _object(line: bytes, address: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise Invalid(f"the daemon at {address} sent something that is no JSON") from error
    if not isinstance(value, dict):
        raise Invalid(f"the daemon at {address} sent something that is no object")
    return value


def _context(directory: Path) -> ssl.SSLContext:
    """Mutual TLS, with the files that Docker's own client uses."""
    try:
        context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"the certificates in {directory} cannot be used: {error}",
            hint="it holds ca.pem, cert.pem and key.pem",
        ) from error
    return context
