"""Whether an ID token is what it says: OpenID Connect Core, 3.1.3.7. Values in, claims out; no I/O."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from slipway.errors import Unauthenticated

LEEWAY = 60
MAX_TOKEN = 64 * 1024
_MINIMUM_RSA = 2048
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# What a key can sign with is told by the key alone, never by the token's header.
_ALGORITHMS = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One of the provider's public keys, and all it may be used for."""

    kid: str
    key: Any
    algorithms: tuple[str, ...]


class UnknownKey(Unauthenticated):
    """None of the keys given made this token's signature; among newer ones may be one that did."""


def parse_keys(document: Any) -> tuple[SigningKey, ...]:
    """The keys of a JWK set that we can use; others, and damaged ones, are passed over (RFC 7517, 5)."""
    entries = document.get("keys") if isinstance(document, Mapping) else None
    found = [_parse_key(entry) for entry in (entries if isinstance(entries, list) else [])[:100]]
    return tuple(key for key in found if key is not None)


def _parse_key(entry: Any) -> SigningKey | None:
    if not isinstance(entry, Mapping) or entry.get("use", "sig") != "sig":
        return None
    kind = entry.get("kty")
    able = _ALGORITHMS.get((str(kind), None if kind == "RSA" else str(entry.get("crv"))), ())
    algorithm = entry.get("alg")
    if algorithm is not None:
        able = tuple(item for item in able if item == algorithm)
    if not able:
        return None
    public = {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}
    try:
        key = jwt.PyJWK(public, able[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _MINIMUM_RSA:
        return None
    return SigningKey(str(entry.get("kid", "")), key, able)


def check_id_token(
    token: str, keys: Sequence[SigningKey], *, issuer: str, client_id: str, nonce: str = ""
) -> dict[str, Any]:
    """The claims of a valid token. Raises ``UnknownKey``, or ``Unauthenticated`` for every other fault.

    ``nonce`` is what was sent with the authorization request; empty where the flow has none.
    """
    if len(token) > MAX_TOKEN:
        raise Unauthenticated(f"the provider's token is longer than {MAX_TOKEN} characters")
    try:
        key = _key_of(token, keys)
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            list(key.algorithms),
            audience=client_id,
            issuer=issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except jwt.InvalidSignatureError as error:
        raise UnknownKey("the provider's token is not signed by the key that it names") from error
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Unauthenticated(f"the provider's token is not valid: {error}") from error
    _check_parties(claims, issuer, client_id)
    if nonce and not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise Unauthenticated("the provider's token belongs to another login: its nonce is not ours")
    return claims


def _key_of(token: str, keys: Sequence[SigningKey]) -> SigningKey:
    header = jwt.get_unverified_header(token)
    if "crit" in header:
        raise Unauthenticated("the provider's token has critical fields that we do not know")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not any(algorithm in able for able in _ALGORITHMS.values()):
        raise Unauthenticated(
            f"the provider's token is signed with {str(algorithm)[:20]!r}, which proves nothing"
        )
    named = [key for key in keys if kid is None or key.kid == kid]
    if not named:
        raise UnknownKey(f"the provider has no key {str(kid)[:100]!r}")
    fitting = [key for key in named if algorithm in key.algorithms]
    if not fitting:
        raise UnknownKey(f"the provider's key {str(kid)[:100]!r} does not sign with {algorithm}")
    if len(fitting) > 1:
        raise Unauthenticated(f"the provider's token does not tell which key signed it with {algorithm}")
    return fitting[0]


def _check_parties(claims: Mapping[str, Any], issuer: str, client_id: str) -> None:
    if claims["iss"] != issuer:
        raise Unauthenticated("the provider's token is of another issuer")
    audiences = claims["aud"]
    party = claims.get("azp")
    if party is not None and party != client_id:
        raise Unauthenticated("the provider's token was made for another party (azp)")
    if isinstance(audiences, list) and len(audiences) > 1 and party is None:
        raise Unauthenticated(
            "the provider's token has several audiences and does not say for whom it is (azp)"
        )
    if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
        raise Unauthenticated("the provider's token names nobody")
