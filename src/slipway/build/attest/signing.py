"""Signatures in the formats of cosign (simple signing) and DSSE."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from slipway.oci import Digest

IN_TOTO = "application/vnd.in-toto+json"
_CURVE, _HASH = ec.SECP256R1(), hashes.SHA256()


def new_key() -> ec.EllipticCurvePrivateKey:
    """ECDSA P-256, which cosign knows."""
    return ec.generate_private_key(_CURVE)


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def simple_signing(reference: str, digest: Digest) -> bytes:
    """The payload that says: this digest may be called by this name."""
    value = {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": str(digest)},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    return json.dumps(value, separators=(",", ":")).encode()


def sign(key: ec.EllipticCurvePrivateKey, payload: bytes) -> str:
    """Base64 of the ASN.1 signature over the payload's SHA-256."""
    return base64.b64encode(key.sign(payload, ec.ECDSA(_HASH))).decode()


def verified(key: ec.EllipticCurvePublicKey, payload: bytes, signature: str) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), payload, ec.ECDSA(_HASH))
    except (InvalidSignature, ValueError):
        return False
    return True


def vouches_for(payload: bytes, digest: Digest) -> bool:
    """Whether a simple signing payload is about this image: a signature over another's payload says nothing."""
    try:
        critical = json.loads(payload)["critical"]
        stated = critical["image"]["docker-manifest-digest"]
        return bool(stated == str(digest) and critical["type"] == "cosign container image signature")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def envelope(key: ec.EllipticCurvePrivateKey, statement: Mapping[str, Any]) -> bytes:
    """A DSSE envelope around an in-toto statement."""
    payload = json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()
    value = {
        "payloadType": IN_TOTO,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": "", "sig": sign(key, _encoded(payload))}],
    }
    return json.dumps(value, separators=(",", ":")).encode()


def opened(key: ec.EllipticCurvePublicKey, data: bytes) -> dict[str, Any] | None:
    """The statement of an envelope that this key has signed; ``None`` for any other."""
    try:
        value = json.loads(data)
        payload = base64.b64decode(value["payload"], validate=True)
        signed = any(verified(key, _encoded(payload), item["sig"]) for item in value["signatures"])
        if value["payloadType"] != IN_TOTO or not signed:
            return None
        found = json.loads(payload)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)
