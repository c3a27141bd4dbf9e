"""Quantities as the API server writes them, so that what it keeps equals what was applied."""

from __future__ import annotations

import math

_BINARY = (("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10))
_DECIMAL = (("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3))


def memory(size: int) -> str:
    """Bytes."""
    for suffix, shift in _BINARY:
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{suffix}"
    for suffix, power in _DECIMAL:
        if size and size % 10**power == 0:
            return f"{size // 10**power}{suffix}"
    return str(size)


def processors(amount: float) -> str:
    """At least a thousandth, which is the smallest there is."""
    thousandths = max(1, math.ceil(round(amount * 1000, 6)))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"
