"""A small OpenID provider that signs real tokens, and can be told to cheat."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote_plus, urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT, SECRET = "slipway", "client secret:/+"
_DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
Cheat = Callable[["OidcProvider", dict[str, Any]], str]


class OidcProvider:
    """``person`` (claims) is who agrees to every login; ``cheat`` makes the ID token instead of ``sign``."""

    def __init__(self) -> None:
        self.person: dict[str, Any] = {"sub": "1", "preferred_username": "ada", "groups": []}
        self.cheat: Cheat | None = None
        self.issuer = ""
        self.extra: dict[str, Any] = {}
        self.in_userinfo: dict[str, Any] = {}
        self.key_requests = 0
        self.named = True
        self.authenticated = ""
        self._codes: dict[str, dict[str, str]] = {}
        self._devices: dict[str, str] = {}
        self.rotate()

    # Keys and tokens

    def rotate(self, algorithm: str = "RS256") -> None:
        """From now on another key signs, and only that one is published."""
        self.kid, self.algorithm = secrets.token_hex(4), algorithm
        if algorithm == "ES256":
            self.key: Any = ec.generate_private_key(ec.SECP256R1())
        else:
            self.key = rsa.generate_private_key(65537, 2048)

    @property
    def public_pem(self) -> bytes:
        found: bytes = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return found

    def jwks(self) -> dict[str, Any]:
        maker: Any = jwt.get_algorithm_by_name(self.algorithm)
        public = json.loads(maker.to_jwk(self.key.public_key()))
        kid = {"kid": self.kid} if self.named else {}
        return {"keys": [{**public, **kid, "use": "sig", "alg": self.algorithm}]}

    def claims(self, nonce: str = "") -> dict[str, Any]:
        begun = int(time.time())
        found = {"iss": self.issuer, "aud": CLIENT, "iat": begun, "exp": begun + 300, **self.person}
        return {**found, "nonce": nonce} if nonce else found

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        return jwt.encode(
            claims, self.key, self.algorithm, headers=({"kid": self.kid} if self.named else {}) | header
        )

    def confuse(self, claims: dict[str, Any]) -> str:
        """HS256 with our public key as the secret (PyJWT refuses to do this, so by hand)."""
        parts = [{"alg": "HS256", "typ": "JWT", "kid": self.kid}, claims]
        text = ".".join(_b64(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_b64(hmac.new(self.public_pem, text.encode(), hashlib.sha256).digest())}"

    # HTTP

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """The issuer's address while the block runs."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_post("/device", self._device)
        app.router.add_get("/agree/{user_code}", self._agree)
        app.router.add_get("/userinfo", self._userinfo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.issuer
        finally:
            await runner.cleanup()

    async def _discovery(self, _request: web.Request) -> web.Response:
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "device_authorization_endpoint": f"{self.issuer}/device",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "scopes_supported": ["openid", "profile", "groups"],
        }
        merged = {**found, **self.extra}
        return web.json_response({key: value for key, value in merged.items() if value is not None})

    async def _jwks(self, _request: web.Request) -> web.Response:
        self.key_requests += 1
        return web.json_response(self.jwks())

    async def _authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        if query.get("client_id") != CLIENT or query.get("code_challenge_method") != "S256":
            raise web.HTTPBadRequest
        code = secrets.token_hex()
        self._codes[code] = query
        answer = urlencode({"code": code, "state": query["state"], "iss": self.issuer})
        raise web.HTTPFound(f"{query['redirect_uri']}?{answer}")

    async def _device(self, request: web.Request) -> web.Response:
        await self._authenticate(request)
        device, user = secrets.token_hex(), secrets.token_hex(4).upper()
        self._devices[device] = user
        found = {"device_code": device, "user_code": user, "expires_in": 60, "interval": 1}
        return web.json_response({**found, "verification_uri": f"{self.issuer}/agree/{user}"})

    async def _agree(self, request: web.Request) -> web.Response:
        for device, user in self._devices.items():
            if user == request.match_info["user_code"]:
                self._devices[device] = "refused" if "no" in request.query else "agreed"
        return web.Response()

    async def _token(self, request: web.Request) -> web.Response:
        await self._authenticate(request)
        form = await request.post()
        if form.get("grant_type") == _DEVICE:
            state = self._devices.get(str(form.get("device_code")), "")
            if state != "agreed":
                words = {"": "expired_token", "refused": "access_denied"}
                return _error(words.get(state, "authorization_pending"))
            del self._devices[str(form["device_code"])]
            return self._tokens("")
        query = self._codes.pop(str(form.get("code")), {})
        verifier = hashlib.sha256(str(form.get("code_verifier")).encode()).digest()
        if query.get("code_challenge") != _b64(verifier) or query["redirect_uri"] != form.get("redirect_uri"):
            return _error("invalid_grant")
        return self._tokens(query.get("nonce", ""))

    async def _authenticate(self, request: web.Request) -> None:
        form = await request.post()
        name, secret = str(form.get("client_id")), str(form.get("client_secret"))
        self.authenticated = "client_secret_post"
        if "Authorization" in request.headers:
            text = base64.b64decode(request.headers["Authorization"].partition(" ")[2]).decode()
            name, _, secret = (unquote_plus(part) for part in text.partition(":"))
            self.authenticated = "client_secret_basic"
        if (name, secret) != (CLIENT, SECRET):
            raise web.HTTPUnauthorized(text='{"error": "invalid_client"}', content_type="application/json")

    def _tokens(self, nonce: str) -> web.Response:
        claims = self.claims(nonce)
        token = self.cheat(self, claims) if self.cheat else self.sign(claims)
        return web.json_response({"id_token": token, "access_token": "for userinfo", "token_type": "Bearer"})

    async def _userinfo(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer for userinfo":
            raise web.HTTPUnauthorized
        return web.json_response({"sub": self.person["sub"], **self.in_userinfo})


def _error(code: str) -> web.Response:
    return web.json_response({"error": code}, status=400)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
