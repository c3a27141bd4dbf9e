"""One provider over HTTP: its discovery document, its keys, its endpoints."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import aiohttp

from slipway.access.oidc.config import OidcConfig, require_secure
from slipway.access.oidc.idtokens import SigningKey, UnknownKey, check_id_token, parse_keys
from slipway.base.reading import read_up_to
from slipway.errors import Denied, Invalid, Unauthenticated, Unavailable, Unsupported

MAX_ANSWER = 1024 * 1024
KEYS_FRESH = 3600.0
KEYS_AGAIN = 10.0
MAX_REQUESTS = 16
_TIMEOUT = aiohttp.ClientTimeout(total=20, connect=10)
_CLIENT_AUTH = "token_endpoint_auth_methods_supported"


class Refused(Exception):
    """The provider said no with a word of RFC 6749 or 8628."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(code)
        self.code = code
        self.description = description

    def __str__(self) -> str:
        return f"{self.code}: {self.description}" if self.description else self.code


@dataclass(slots=True)
class _Cached:
    value: Any = None
    fetched: float = float("-inf")


class Provider:
    """What the configured issuer publishes, kept for a while. ``clock`` counts seconds."""

    def __init__(self, config: OidcConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._metadata = _Cached()
        self._keys = _Cached(())
        self._lock = asyncio.Lock()
        # Whoever is not logged in yet makes us ask the provider: so many questions at a time.
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._context: ssl.SSLContext | bool = True
        if config.ca:
            try:
                self._context = ssl.create_default_context(cafile=config.ca)
            except OSError as error:
                raise Invalid(f"oidc.ca = {config.ca!r} cannot be used: {error}") from error

    async def metadata(self) -> Mapping[str, Any]:
        """The discovery document. Raises ``Unavailable`` when the provider does not answer with one of its own."""
        if self._clock() - self._metadata.fetched > KEYS_FRESH:
            url = self.config.issuer.rstrip("/") + "/.well-known/openid-configuration"
            found = await self._json("GET", url)
            if found.get("issuer") != self.config.issuer:
                raise Unavailable(
                    f"the provider calls itself {str(found.get('issuer'))[:200]!r}, not {self.config.issuer!r}",
                    hint="oidc.issuer must be the same to the letter",
                )
            self._metadata = _Cached(found, self._clock())
        kept: Mapping[str, Any] = self._metadata.value
        return kept

    async def endpoint(self, name: str) -> str:
        """Raises ``Unsupported`` when the provider has none."""
        url = (await self.metadata()).get(name)
        if not isinstance(url, str):
            raise Unsupported(f"the provider has no {name.replace('_', ' ')}")
        return require_secure(url, f"the provider's {name}")

    async def scopes(self) -> str:
        more = " groups" if "groups" in _listed(await self.metadata(), "scopes_supported") else ""
        return self.config.scopes or f"openid profile email{more}"

    async def verify(self, token: Any, nonce: str = "") -> dict[str, Any]:
        """The claims of an ID token; one that no known key signed makes us ask for newer ones, once in a while."""
        if not isinstance(token, str):
            raise Unauthenticated("the provider gave no ID token", hint="oidc.scopes must have openid")
        config = self.config
        keys, fetched = await self._signing_keys(KEYS_FRESH)
        try:
            return check_id_token(token, keys, issuer=config.issuer, client_id=config.client_id, nonce=nonce)
        except UnknownKey:
            newer, again = await self._signing_keys(KEYS_AGAIN)
            if again == fetched:
                raise
        return check_id_token(token, newer, issuer=config.issuer, client_id=config.client_id, nonce=nonce)

    async def userinfo(self, access_token: Any, subject: str) -> Mapping[str, Any]:
        """Further claims about ``subject``; none where the provider tells nothing, or of somebody else."""
        try:
            url = await self.endpoint("userinfo_endpoint")
        except Unsupported:
            return {}
        headers = {"Authorization": f"Bearer {access_token}"}
        found = await self._json("GET", url, headers=headers)
        if found.get("sub") != subject:
            raise Unauthenticated("the provider's userinfo is about somebody else")
        return found

    async def token(self, values: Mapping[str, str]) -> Mapping[str, Any]:
        """Ask the token endpoint as our client. Raises ``Refused`` with the word that it says no with."""
        return await self._as_client(await self.endpoint("token_endpoint"), values)

    async def start_device(self) -> Mapping[str, Any]:
        """Raises ``Unsupported`` when the provider has no device authorization."""
        url = await self.endpoint("device_authorization_endpoint")
        try:
            return await self._as_client(url, {"scope": await self.scopes()})
        except Refused as error:
            raise Denied(
                f"the provider refuses device logins: {error}",
                hint="the client must be allowed the device authorization grant there",
            ) from error

    async def _as_client(self, url: str, values: Mapping[str, str]) -> Mapping[str, Any]:
        config, form, headers = self.config, dict(values), {"Accept": "application/json"}
        methods = _listed(await self.metadata(), _CLIENT_AUTH) or ["client_secret_basic"]
        user, secret = quote_plus(config.client_id), quote_plus(config.client_secret)
        # Not every provider decodes what RFC 6749 (2.3.1) says is encoded; in a form there is no doubt.
        doubtful = (user, secret) != (
            config.client_id,
            config.client_secret,
        ) and "client_secret_post" in methods
        if config.client_secret and "client_secret_basic" in methods and not doubtful:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()
        elif config.client_secret:
            form["client_secret"] = config.client_secret
        form["client_id"] = config.client_id
        return await self._json("POST", url, data=form, headers=headers)

    async def _signing_keys(self, fresh: float) -> tuple[tuple[SigningKey, ...], float]:
        async with self._lock:
            if self._clock() - self._keys.fetched > fresh:
                found = await self._json("GET", await self.endpoint("jwks_uri"))
                self._keys = _Cached(parse_keys(found), self._clock())
            return self._keys.value, self._keys.fetched

    async def _json(self, method: str, url: str, **options: Any) -> Mapping[str, Any]:
        try:
            async with self._slots, aiohttp.ClientSession(timeout=_TIMEOUT) as session:
                async with session.request(
                    method, url, ssl=self._context, allow_redirects=False, **options
                ) as response:
                    data = await read_up_to(response.content, MAX_ANSWER)
                    status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"the provider does not answer at {url}: {error or 'timeout'}") from error
        try:
            found = json.loads(data[:MAX_ANSWER])
        except (ValueError, RecursionError):
            found = None
        if method == "POST" and status in (400, 401, 403) and isinstance(found, dict) and "error" in found:
            raise Refused(str(found["error"])[:100], str(found.get("error_description", ""))[:300])
        if status != 200 or not isinstance(found, dict):
            raise Unavailable(f"the provider answers {url} with {status} and not with what was asked")
        return found


def _listed(metadata: Mapping[str, Any], name: str) -> list[Any]:
    found = metadata.get(name)
    return found if isinstance(found, list) else []
