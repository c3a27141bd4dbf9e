"""Go's durations (``1m30s``, ``.5h``), as HEALTHCHECK has them."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MAX = 2**63 - 1


def nanoseconds(text: str) -> int | None:
    """``text`` in nanoseconds; ``None`` if it is no duration, or a negative one."""
    if text == "0":
        return 0
    if len(text) > 64 or re.sub(_PART, "", text) or not text:
        return None
    total = int(sum(Fraction(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    return total if total <= _MAX else None
