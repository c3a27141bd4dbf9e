"""One registry, asked for manifests and blobs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from slipway.distribution.challenge import parse_challenge
from slipway.errors import Denied, Exhausted, Invalid, NotFound, Unavailable
from slipway.oci import Descriptor, Digest, MediaType, Reference
from slipway.oci.manifest import MAX_MANIFEST

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_read=60)
_PIECE = 1024 * 1024
_LOOPBACK = ("127.", "localhost", "[::1]")


class RemoteRegistry:
    """Talks to ``host`` for the length of an ``async with`` block, anonymously, with tokens where it asks for them."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._secure = not host.startswith(_LOOPBACK)
        self._tokens: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RemoteRegistry:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """A manifest's bytes and media type, verified if it was asked for by digest.

        Raises ``NotFound``, ``Denied``, ``Unavailable``; ``Invalid`` for a wrong digest, ``Exhausted`` above 4 MiB.
        """
        headers = {"Accept": ", ".join(MediaType.ACCEPTED)}
        async with self._get(reference, f"manifests/{reference.target}", headers) as response:
            data = await response.content.read(MAX_MANIFEST + 1)
            while len(data) <= MAX_MANIFEST and (more := await response.content.read(_PIECE)):
                data += more
            kind = response.headers.get("Content-Type", "")
        if len(data) > MAX_MANIFEST:
            raise Exhausted(f"the manifest of {reference} is too large; the limit is {MAX_MANIFEST} bytes")
        if reference.digest is not None and Digest.of(data) != reference.digest:
            raise Invalid(f"{self._host} sent another manifest than {reference.digest}")
        return data, kind

    async def blob(self, reference: Reference, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """A blob's bytes in large pieces, no more than its descriptor says; the caller verifies them."""
        left = blob.size
        async with self._get(reference, f"blobs/{blob.digest}", {}) as response:
            async for piece in response.content.iter_chunked(_PIECE):
                left -= len(piece)
                if left < 0:
                    raise Invalid(f"{self._host} sent more than the {blob.size} bytes of {blob.digest}")
                yield piece

    @asynccontextmanager
    async def _get(
        self, reference: Reference, path: str, headers: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        url = f"{'https' if self._secure else 'http'}://{self._host}/v2/{reference.repository}/{path}"
        try:
            for attempt in range(2):
                token = self._tokens.get(reference.repository)
                given = headers | ({"Authorization": f"Bearer {token}"} if token else {})
                # aiohttp drops the Authorization header itself when a redirect leads to another host.
                async with self._session.get(url, headers=given) as response:
                    if response.status == 401 and attempt == 0:
                        await self._fetch_token(reference, response.headers.get("WWW-Authenticate", ""))
                        continue
                    self._check(response, reference)
                    yield response
                    return
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Unavailable(
                f"the registry {self._host} does not answer: {error or type(error).__name__}",
                hint="check its name and the network, or copy the image here first",
            ) from error

    async def _fetch_token(self, reference: Reference, header: str) -> None:
        challenge = parse_challenge(header, self._secure)
        assert self._session is not None
        if challenge is None:
            raise Denied(f"the registry {self._host} wants a login for {reference}")
        async with self._session.get(challenge.url) as response:
            if response.status != 200:
                raise Denied(f"the registry {self._host} gives no token for {reference}")
            try:
                value = json.loads(await response.content.read(_PIECE))
                self._tokens[reference.repository] = str(value.get("token") or value["access_token"])
            except (ValueError, KeyError, AttributeError) as error:
                raise Invalid(f"the registry {self._host} sent a malformed token") from error

    def _check(self, response: aiohttp.ClientResponse, reference: Reference) -> None:
        if response.status == 404:
            raise NotFound(f"the image {reference} does not exist")
        if response.status in (401, 403):
            raise Denied(
                f"the image {reference} is not public", hint="copy it here first, e.g. with skopeo copy"
            )
        if response.status >= 400:
            raise Unavailable(f"the registry {self._host} answered {response.status} for {reference}")
