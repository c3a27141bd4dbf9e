"""What keys are made of."""

from __future__ import annotations

from typing import Any

Key = tuple[Any, ...]


def number(text: str) -> tuple[int, str]:
    """Digits as a value that sorts like the number, of whatever length; ``""`` is zero."""
    digits = text.lstrip("0")
    return len(digits), digits
