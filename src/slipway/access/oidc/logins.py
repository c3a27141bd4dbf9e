"""The two ways to log in: by a browser, and by the command line with a browser elsewhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography.fernet import Fernet, InvalidToken

from slipway.access.access import Access
from slipway.access.identity import ANONYMOUS
from slipway.access.oidc.people import lacks, person_of
from slipway.access.oidc.provider import Provider, Refused
from slipway.access.oidc.signing_in import sign_in
from slipway.base.files import atomic_write
from slipway.errors import Conflict, Denied, Unauthenticated, Unavailable
from slipway.state import Database

BROWSER_SECONDS = 600
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True, slots=True)
class DeviceStart:
    """What the person is shown (address and code), and what the program asks with every ``interval`` seconds."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


@dataclass(frozen=True, slots=True)
class Done:
    """Logged in: the token is one of ours, shown this once."""

    name: str
    token: str = field(repr=False)
    expires: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not yet; ``slow_down``: ask less often."""

    slow_down: bool


class OidcLogins:
    """Nothing is remembered between two requests: what a browser login needs later it carries itself, sealed."""

    def __init__(self, access: Access, database: Database, provider: Provider, keys: Path) -> None:
        self._access = access
        self._database = database
        self._provider = provider
        self._seal = Fernet(seal_key(keys))

    async def start_device(self) -> DeviceStart:
        """Raises ``Unsupported`` when the provider has no device authorization (RFC 8628)."""
        found = await self._provider.start_device()
        try:
            return DeviceStart(
                str(found["device_code"]),
                str(found["user_code"]),
                str(found.get("verification_uri") or found["verification_url"]),
                str(found.get("verification_uri_complete", "")),
                int(found.get("expires_in", BROWSER_SECONDS)),
                max(1, int(found.get("interval", 5))),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise Unavailable(f"the provider's answer lacks what a device login needs: {error}") from error

    async def poll_device(self, device_code: str) -> Done | Waiting:
        """Raises ``Denied`` when the person said no, ``Unauthenticated`` when the code is too old or unknown."""
        try:
            answer = await self._provider.token({"grant_type": _DEVICE_GRANT, "device_code": device_code})
        except Refused as error:
            if error.code in ("authorization_pending", "slow_down"):
                return Waiting(error.code == "slow_down")
            raise _refusal(error) from error
        return await self._finish(answer, "")

    async def start_browser(self, redirect_uri: str) -> tuple[str, str]:
        """The address to send the browser to, and what the browser keeps until it comes back."""
        kept = {
            "state": secrets.token_urlsafe(24),
            "nonce": secrets.token_urlsafe(24),
            "verifier": secrets.token_urlsafe(48),
            "redirect_uri": redirect_uri,
        }
        challenge = base64.urlsafe_b64encode(hashlib.sha256(kept["verifier"].encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self._provider.config.client_id,
            "redirect_uri": redirect_uri,
            "scope": await self._provider.scopes(),
            "state": kept["state"],
            "nonce": kept["nonce"],
            "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        url = await self._provider.endpoint("authorization_endpoint")
        joined = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
        return joined, self._seal.encrypt(json.dumps(kept).encode()).decode()

    async def finish_browser(self, sealed: str, query: Mapping[str, str]) -> Done:
        """Raises ``Unauthenticated`` when this browser did not begin this login, or the provider refused."""
        try:
            kept = json.loads(self._seal.decrypt(sealed.encode(), ttl=BROWSER_SECONDS))
        except InvalidToken as error:
            raise _stranger() from error
        if not hmac.compare_digest(kept["state"].encode(), query.get("state", "").encode()):
            raise _stranger()
        if query.get("iss", self._provider.config.issuer) != self._provider.config.issuer:
            raise Unauthenticated("the answer is of another provider")
        try:
            if "error" in query:
                raise Refused(query["error"][:100], query.get("error_description", "")[:300])
            answer = await self._provider.token(
                {
                    "grant_type": "authorization_code",
                    "code": query.get("code", ""),
                    "redirect_uri": kept["redirect_uri"],
                    "code_verifier": kept["verifier"],
                }
            )
        except Refused as error:
            raise _refusal(error) from error
        return await self._finish(answer, kept["nonce"])

    async def _finish(self, answer: Mapping[str, Any], nonce: str) -> Done:
        config = self._provider.config
        detail = {"issuer": config.issuer}
        name = ""
        try:
            claims = await self._claims(answer, nonce)
            detail["subject"] = claims["sub"]
            person = person_of(claims, config)
            name = person.name
            identity = await sign_in(self._database, config, person)
        except (Conflict, Denied, Unauthenticated) as error:
            detail["reason"] = error.message
            await self._access.audit(ANONYMOUS, "login", name, allowed=False, detail=detail)
            raise
        token, expires = await self._access.open_session(identity, lifetime=config.login_lifetime)
        await self._access.audit(identity, "login", identity.name, detail=detail)
        return Done(identity.name, token, expires)

    async def _claims(self, answer: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """What the ID token says; where it is silent, what userinfo says of the same subject."""
        claims = await self._provider.verify(answer.get("id_token"), nonce)
        if not lacks(claims, self._provider.config) or "access_token" not in answer:
            return claims
        more = await self._provider.userinfo(answer["access_token"], claims["sub"])
        return {**more, **{name: value for name, value in claims.items() if value is not None}}


def _refusal(error: Refused) -> Denied | Unauthenticated:
    if error.code == "access_denied":
        return Denied("the login was refused at the provider")
    if error.code == "expired_token":
        return Unauthenticated("the code is too old", hint="begin again")
    return Unauthenticated(f"the provider refuses the login: {error}")


def _stranger() -> Unauthenticated:
    return Unauthenticated(
        "this browser did not begin this login, or too long ago", hint="begin again at /api/v1/oidc/start"
    )


def seal_key(keys: Path) -> bytes:
    """The key of what browsers keep for us, among ``keys``; made at first use. Servers of one site share it."""
    path = keys / "oidc-seal.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic_write(path, Fernet.generate_key(), 0o600)
    return path.read_bytes()
