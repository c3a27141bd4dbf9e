"""What keys are made of."""

from __future__ import annotations

import re
from typing import Any

Key = tuple[Any, ...]
_EPOCH = re.compile(r"[0-9]+")


def number(text: str) -> tuple[int, str]:
    """Digits as a value that sorts like the number, of whatever length; ``""`` is zero."""
    digits = text.lstrip("0")
    return len(digits), digits


def split(text: str) -> tuple[str, str, str]:
    """Epoch, version and release (or revision) of ``[epoch:]version[-release]``; empty where there is none."""
    epoch, colon, rest = text.strip().partition(":")
    if not colon or not _EPOCH.fullmatch(epoch):
        epoch, rest = "", text.strip()
    version, dash, release = rest.rpartition("-")
    return (epoch, version, release) if dash else (epoch, rest, "")
