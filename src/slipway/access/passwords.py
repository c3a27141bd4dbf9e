"""Hashing of passwords people choose (Argon2id) and of secrets we make (SHA-256, they have full entropy)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from slipway.errors import Invalid

MINIMUM_LENGTH = 8
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Verified when the name is unknown, so that the time taken does not tell whether an account exists.
_NOBODY = _HASHER.hash(secrets.token_hex())


def new_secret(prefix: str) -> str:
    return f"{prefix}_{secrets.token_urlsafe(30)}"


def hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_matches(secret: str, stored: str) -> bool:
    return hmac.compare_digest(hash_secret(secret), stored)


async def hash_password(password: str) -> str:
    """Raises ``Invalid`` for a password shorter than ``MINIMUM_LENGTH`` characters."""
    if len(password) < MINIMUM_LENGTH:
        raise Invalid(
            f"the password has {len(password)} characters", hint=f"use {MINIMUM_LENGTH} or more characters"
        )
    return await asyncio.to_thread(_HASHER.hash, password)


async def password_matches(password: str, stored: str | None) -> bool:
    return await asyncio.to_thread(_verify, password, stored or _NOBODY) and stored is not None


def _verify(password: str, stored: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
