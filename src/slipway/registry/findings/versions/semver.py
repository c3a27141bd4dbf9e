"""npm, and ranges of the type SEMVER in any ecosystem: Semantic Versioning 2.0.0.

A leading ``v`` or ``=`` and missing numbers (``1.2``) are accepted, as npm does when it is not strict.
"""

from __future__ import annotations

import re

from slipway.registry.findings.versions.keys import Key, number

_VERSION = re.compile(
    r"[v=\s]*(?P<numbers>[0-9]+(?:\.[0-9]+)*)(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]*)?"
)
_DIGITS = re.compile(r"[0-9]+")


def key(text: str) -> Key:
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        return 0, text
    numbers = [number(part) for part in found["numbers"].split(".")]
    # More than three numbers are no SemVer, but they are published; the order goes on as one would expect.
    while len(numbers) > 1 and numbers[-1] == number(""):
        numbers.pop()
    return 1, tuple(numbers), _pre_release(found["pre"])


def _pre_release(text: str | None) -> Key:
    """Identifiers in turn, numbers before words, a longer list after a shorter; none at all is after them all."""
    if text is None:
        return (1,)
    parts = tuple((0, number(part)) if _DIGITS.fullmatch(part) else (1, part) for part in text.split("."))
    return 0, parts
