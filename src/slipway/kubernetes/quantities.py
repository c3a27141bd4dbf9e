"""Amounts as Kubernetes writes them: ``500m``, ``16393208Ki``, ``1e3``."""

from __future__ import annotations

import re
from decimal import Decimal

from slipway.errors import Invalid

_QUANTITY = re.compile(
    r"([+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30}))(?:([EPTGMk]i?|[numKi]{1,2})|[eE]([+-]?\d{1,2}))?"
)
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip


def quantity(text: str | int | float) -> Decimal:
    """In plain units: cores, bytes, pieces. Raises ``Invalid``."""
    match = _QUANTITY.fullmatch(str(text))
    factor = _SUFFIXES.get(match[2] or "") if match else None
    if match is None or factor is None:
        raise Invalid(f"not an amount as Kubernetes writes them: {str(text)[:100]!r}")
    return Decimal(match[1]) * (Decimal(10) ** int(match[3]) if match[3] else factor)
