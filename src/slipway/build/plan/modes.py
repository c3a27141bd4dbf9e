"""``--chmod``: octal, or symbolic clauses as chmod(1) has them."""

from __future__ import annotations

import re

_OCTAL = re.compile(r"[0-7]{1,5}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)")
_ACTION = re.compile(r"[-+=][rwxXst]*")


def normal_mode(text: str) -> str | None:
    """``text`` with four octal digits, or with one action in each clause; ``None`` if it is no mode."""
    if _OCTAL.fullmatch(text):
        number = int(text, 8)
        return f"{number:04o}" if number <= 0o7777 else None
    clauses = [_CLAUSE.fullmatch(part) for part in text.split(",")]
    found = [match for match in clauses if match]
    if len(found) != len(clauses):
        return None
    # ``u+r-w`` is ``u+r`` and then ``u-w``.
    return ",".join(match[1] + action for match in found for action in _ACTION.findall(match[2]))
