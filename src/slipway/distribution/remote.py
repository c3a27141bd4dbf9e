"""One registry, asked for manifests and blobs, and given them."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from slipway.base.reading import read_up_to
from slipway.distribution.challenge import parse_challenge
from slipway.errors import Denied, Exhausted, Invalid, NotFound, Unavailable, Unsupported
from slipway.oci import Descriptor, Digest, Index, MediaType, Reference, parse_manifest
from slipway.oci.manifest import MAX_MANIFEST

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_read=60)
_PIECE = 1024 * 1024
_PAGE = 1000
_MOST_JSON = 16 * 1024 * 1024
_LOOPBACK = ("127.", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Login:
    """Who somebody is at another registry. In memory only."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def trusting(authority: str) -> ssl.SSLContext:
    """What trusts the system's authorities and those of ``authority`` (PEM). Raises ``Invalid``."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid("not a certificate in PEM", hint="-----BEGIN CERTIFICATE----- …") from error
    return context


class RemoteRegistry:
    """Talks to ``host`` for the length of an ``async with`` block, with tokens where it asks for them.

    ``login`` goes to this host and to where its challenge says that tokens come from, and nowhere else.
    """

    def __init__(
        self, host: str, login: Login | None = None, secure: bool | None = None, authority: str = ""
    ) -> None:
        """``secure``: over TLS; by default everywhere but on this machine itself. ``authority``: certificates (PEM)
        that are trusted for this registry, beside the system's."""
        self.host = host
        self._login = login
        self._secure = not host.startswith(_LOOPBACK) if secure is None else secure
        self._authority = authority
        self._authorizations: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> RemoteRegistry:
        trusted: ssl.SSLContext | bool = True
        if self._authority:
            trusted = await asyncio.to_thread(trusting, self._authority)
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT, auto_decompress=False, connector=aiohttp.TCPConnector(ssl=trusted)
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    # What is there

    async def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """A manifest's bytes and media type, verified if it was asked for by digest.

        Raises ``NotFound``, ``Denied``, ``Unavailable``; ``Invalid`` for a wrong digest, ``Exhausted`` above 4 MiB.
        """
        headers = {"Accept": ", ".join(MediaType.ACCEPTED)}
        async with self._ask("GET", reference, f"manifests/{reference.target}", headers) as response:
            data = await read_up_to(response.content, MAX_MANIFEST)
            kind = response.headers.get("Content-Type", "")
        if len(data) > MAX_MANIFEST:
            raise Exhausted(f"the manifest of {reference} is too large; the limit is {MAX_MANIFEST} bytes")
        if reference.digest is not None and Digest.of(data) != reference.digest:
            raise Invalid(f"{self.host} sent another manifest than {reference.digest}")
        return data, kind

    async def blob(self, reference: Reference, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """A blob's bytes in large pieces, no more than its descriptor says; the caller verifies them."""
        left = blob.size
        async with self._ask("GET", reference, f"blobs/{blob.digest}") as response:
            async for piece in response.content.iter_chunked(_PIECE):
                left -= len(piece)
                if left < 0:
                    raise Invalid(f"{self.host} sent more than the {blob.size} bytes of {blob.digest}")
                yield piece

    async def digest_of(self, reference: Reference) -> Digest | None:
        """What a tag points at, or the digest itself if it is there; ``None`` if not."""
        headers = {"Accept": ", ".join(MediaType.ACCEPTED)}
        try:
            async with self._ask("HEAD", reference, f"manifests/{reference.target}", headers) as response:
                text = response.headers.get("Docker-Content-Digest", "")
        except NotFound:
            return None
        return Digest.parse(text) if text else Digest.of((await self.manifest(reference))[0])

    async def tags(self, reference: Reference) -> list[str]:
        """All tags of a repository. Raises ``NotFound``."""
        url = f"{self._base}/v2/{reference.repository}/tags/list"
        return await self._names(reference, url, "tags")

    async def catalog(self) -> list[str]:
        """All repositories that the login may see. Raises ``Denied`` and ``NotFound`` where there is no such list."""
        return await self._names(Reference("catalog", self.host), f"{self._base}/v2/_catalog", "repositories")

    async def _names(self, reference: Reference, url: str, key: str) -> list[str]:
        """A list that comes in pages. Where it goes on the registry says: some go by names, others by tokens."""
        found: list[str] = []
        page = f"{url}?n={_PAGE}"
        asked = set()
        while page not in asked:
            asked.add(page)
            async with self._asked("GET", reference, page, {}, None) as response:
                data = await read_up_to(response.content, _MOST_JSON)
                link = response.links.get("next")
            try:
                found += [str(name) for name in json.loads(data).get(key) or ()]
            except (ValueError, AttributeError) as error:
                raise Invalid(f"{self.host} sent a malformed list of {key}") from error
            if link is None:
                break
            following = urlsplit(str(link["url"]))
            page = f"{self._base}{following.path}?{following.query}"  # of this host, whatever it calls itself
        return found

    async def referrers(self, reference: Reference, digest: Digest) -> list[Descriptor]:
        """What refers to a manifest; nothing where a registry knows no referrers."""
        try:
            async with self._ask("GET", reference, f"referrers/{digest}") as response:
                data = await read_up_to(response.content, MAX_MANIFEST)
            index = parse_manifest(data, MediaType.OCI_INDEX)
        except (NotFound, Invalid):
            return []
        return list(index.manifests) if isinstance(index, Index) else []

    async def has_blob(self, reference: Reference, digest: Digest) -> bool:
        try:
            async with self._ask("HEAD", reference, f"blobs/{digest}"):
                return True
        except NotFound:
            return False

    # What is given

    async def put_blob(self, reference: Reference, blob: Descriptor, content: AsyncIterable[bytes]) -> None:
        """Upload a blob in one piece; the registry verifies its digest."""
        async with self._ask("POST", reference, "blobs/uploads/") as response:
            location = urljoin(str(response.url), response.headers.get("Location", ""))
        sign = "&" if urlsplit(location).query else "?"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        async with self._send("PUT", reference, f"{location}{sign}digest={blob.digest}", headers, content):
            return

    async def put_manifest(
        self, reference: Reference, data: bytes, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        given = {"Content-Type": media_type, **(headers or {})}
        async with self._ask("PUT", reference, f"manifests/{reference.target}", given, data):
            return

    async def delete_manifest(self, reference: Reference, headers: Mapping[str, str] | None = None) -> None:
        """Raises ``NotFound``, and ``Unsupported`` where nothing can be deleted."""
        async with self._ask("DELETE", reference, f"manifests/{reference.target}", headers):
            return

    # Beyond the specification

    async def extension(self, method: str, path: str) -> Any:
        """The JSON that ``/v2/PATH`` answers with, ``None`` for an empty answer; for another Slipway, and lists."""
        where = Reference("catalog", self.host)
        headers = {"Authorization": self._login.header} if self._login else {}
        async with self._open(method, where, f"{self._base}/v2/{path}", headers, None) as response:
            self._check(response, where)
            data = await read_up_to(response.content, _MOST_JSON)
        try:
            return json.loads(data) if data else None
        except ValueError as error:
            raise Invalid(f"{self.host} answered /v2/{path} with something that is no JSON") from error

    # How

    @asynccontextmanager
    async def _ask(
        self, method: str, reference: Reference, path: str, headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        """A request that can be repeated, with authorization if it turns out to need one."""
        url = f"{self._base}/v2/{reference.repository}/{path}"
        async with self._asked(method, reference, url, headers or {}, data) as response:
            yield response

    @asynccontextmanager
    async def _asked(
        self, method: str, reference: Reference, url: str, headers: Mapping[str, str], data: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        for attempt in range(2):
            async with self._open(method, reference, url, headers, data) as response:
                if response.status == 401 and attempt == 0:
                    await self._authorize(reference, response.headers.get("WWW-Authenticate", ""))
                    continue
                self._check(response, reference)
                yield response
                return

    @asynccontextmanager
    async def _send(
        self, method: str, reference: Reference, url: str, headers: Mapping[str, str], content: AsyncIterable[bytes]
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        """A request whose body is read once; what came before it has fetched the authorization."""
        async with self._open(method, reference, url, headers, content) as response:
            self._check(response, reference)
            yield response

    @property
    def _base(self) -> str:
        return f"{'https' if self._secure else 'http'}://{self.host}"

    @asynccontextmanager
    async def _open(
        self, method: str, reference: Reference, url: str, headers: Mapping[str, str], data: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        known = self._authorizations.get(reference.repository)
        if known and urlsplit(url).netloc == self.host:
            headers = {**headers, "Authorization": known}
        try:
            # aiohttp drops the Authorization header itself when a redirect leads to another host.
            async with self._session.request(method, url, headers=headers, data=data) as response:
                yield response
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Unavailable(
                f"the registry {self.host} does not answer: {error or type(error).__name__}",
                hint="check its name and the network, or copy the image here first",
            ) from error

    async def _authorize(self, reference: Reference, header: str) -> None:
        if header.lower().startswith("basic") and self._login is not None:
            self._authorizations[reference.repository] = self._login.header
            return
        challenge = parse_challenge(header, self._secure)
        assert self._session is not None
        if challenge is None:
            raise Denied(f"the registry {self.host} wants a login for {reference}")
        headers = {"Authorization": self._login.header} if self._login else {}
        async with self._session.get(challenge.url, headers=headers) as response:
            if response.status != 200:
                who = f" to {self._login.username}" if self._login else ""
                raise Denied(f"the registry {self.host} gives no token for {reference}{who}")
            try:
                value = json.loads(await read_up_to(response.content, _PIECE))
                token = str(value.get("token") or value["access_token"])
            except (ValueError, KeyError, AttributeError) as error:
                raise Invalid(f"the registry {self.host} sent a malformed token") from error
            self._authorizations[reference.repository] = f"Bearer {token}"

    def _check(self, response: aiohttp.ClientResponse, reference: Reference) -> None:
        if response.status == 404:
            raise NotFound(f"the image {reference} does not exist")
        if response.status in (401, 403):
            who = f"{self._login.username} may not do this with" if self._login else "a login is needed for"
            raise Denied(
                f"{who} {reference}", hint="--registry-login HOST uses the login of docker or podman"
            )
        if response.status == 405:
            raise Unsupported(f"the registry {self.host} does not do this with {reference}")
        if response.status in (400, 409, 413, 416):
            raise Invalid(f"the registry {self.host} refused {reference} ({response.status})")
        if response.status >= 400:
            raise Unavailable(f"the registry {self.host} answered {response.status} for {reference}")
