"""Everything that is packaged as RPM: ``[epoch:]version[-release]``, each part in the order of rpmvercmp."""

from __future__ import annotations

import re

from slipway.registry.findings.versions.keys import Key, number, split

_PARTS = re.compile(r"([0-9]+)|([A-Za-z]+)|([~^])")
_TILDE, _END, _CARET, _LETTERS, _DIGITS = range(5)


def key(text: str) -> Key:
    epoch, version, release = split(text)
    return number(epoch), part(version), part(release)


def part(text: str) -> Key:
    """A version or a release alone. What separates the pieces does not count."""
    made: list[Key] = []
    for digits, letters, mark in _PARTS.findall(text):
        if digits:
            made.append((_DIGITS, number(digits)))
        elif letters:
            made.append((_LETTERS, letters))
        else:
            made.append((_TILDE if mark == "~" else _CARET,))
    return (*made, (_END,))
