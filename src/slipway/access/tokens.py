"""Short-lived signed tokens of Docker's registry token protocol (JWT, ES256).

Only tokens whose header names exactly our algorithm and key are looked at, so that ``alg: none``, HMAC with the
public key and embedded keys have nothing to confuse.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from slipway.base.files import make_once
from slipway.errors import Unauthenticated

ALGORITHM = "ES256"
LIFETIME = 900
_REMEMBERED = 4096
ISSUER = "slipway"


@dataclass(frozen=True, slots=True)
class Grant:
    """Allowed ``actions`` on one resource, e.g. ``repository`` ``demo/web`` ``{"pull"}``."""

    type: str
    name: str
    actions: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a token said. Ours, and good until it expires."""

    subject: str
    grants: tuple[Grant, ...]
    expires: float


class RegistryTokens:
    """Signs and checks tokens with a key kept in ``keys``; made at first use, readable by root only."""

    def __init__(self, keys: Path, service: str) -> None:
        self.service = service
        path = keys / "registry-token.pem"
        if not path.exists():
            keys.mkdir(parents=True, exist_ok=True, mode=0o700)
            make_once(path, _new_key(), 0o600)
        loaded = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._private = loaded
        self._public = loaded.public_key()
        # Tokens whose signature was found right, by their hash: a client sends the same one with each of its requests.
        self._checked: dict[bytes, _Checked] = {}

    def issue(self, subject: str, grants: Sequence[Grant], lifetime: int = LIFETIME) -> str:
        issued = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "aud": self.service,
            "iat": issued,
            "nbf": issued - 10,
            "exp": issued + lifetime,
            "jti": secrets.token_hex(16),
            "access": [
                {"type": grant.type, "name": grant.name, "actions": sorted(grant.actions)} for grant in grants
            ],
        }
        return jwt.encode(claims, self._private, ALGORITHM)

    def check(self, token: str) -> tuple[str, tuple[Grant, ...]]:
        """The subject and grants of a valid token. Raises ``Unauthenticated`` for any other."""
        key = hashlib.sha256(token.encode()).digest()
        known = self._checked.get(key)
        if known is None or known.expires <= time.time():
            known = self._verify(token)
            while len(self._checked) >= _REMEMBERED:
                del self._checked[next(iter(self._checked))]
            self._checked[key] = known
        return known.subject, known.grants

    def _verify(self, token: str) -> _Checked:
        try:
            if set(jwt.get_unverified_header(token)) - {"alg", "typ"}:
                raise Unauthenticated("the token's header has fields that are not ours")
            claims = jwt.decode(
                token,
                self._public,
                [ALGORITHM],
                audience=self.service,
                issuer=ISSUER,
                options={"require": ["exp", "nbf", "sub", "aud", "iss"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token is not valid: {error}", hint="log in again") from error
        grants = tuple(
            Grant(entry["type"], entry["name"], frozenset(entry["actions"])) for entry in claims["access"]
        )
        return _Checked(claims["sub"], grants, float(claims["exp"]))


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
