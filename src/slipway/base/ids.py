"""Random identifiers."""

from __future__ import annotations

import secrets


def new_id(size: int = 12) -> str:
    """``size`` random lower-case hex digits, starting with a letter so that it is valid as a host name."""
    return secrets.choice("abcdef") + secrets.token_hex(size)[: size - 1]
