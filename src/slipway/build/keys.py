"""Content keys: what could change a result, framed so that no two inputs can run together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def frame(*parts: bytes | str) -> bytes:
    """The parts, each behind its length: ``frame("ab", "c")`` and ``frame("a", "bc")`` differ."""
    out = bytearray()
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        out += len(raw).to_bytes(8, "big") + raw
    return bytes(out)


def key_of(kind: str, parts: Iterable[bytes | str]) -> str:
    """The key of an operation of this ``kind`` over ``parts``; the prefix is the version of our own semantics."""
    return f"{kind}:{hashlib.sha256(frame('slipway-1', kind, *parts)).hexdigest()}"
