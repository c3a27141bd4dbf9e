"""Sizes as people write them: ``10g``."""

from __future__ import annotations

import re

from slipway.errors import Invalid


def size_of(text: str) -> int:
    """Bytes. Raises ``Invalid``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if match is None:
        raise Invalid(f"not a size: {text!r}", hint="a number with k, m, g or t, e.g. 10g")
    return int(float(match[1]) * (1 << 10 * " kmgt".index(match[2] or " ")))
