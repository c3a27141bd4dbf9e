"""Debian and Ubuntu: ``[epoch:]upstream[-revision]`` (deb-version(7))."""

from __future__ import annotations

import re

from slipway.registry.findings.versions.keys import Key, number, split

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
# The end of a part: after a tilde, before everything else.
_END = ((0,), number(""))


def key(text: str) -> Key:
    epoch, version, release = split(text)
    return number(epoch), _part(version), _part(release)


def _part(text: str) -> Key:
    """Stretches of other characters and of digits in turn, closed by the end.

    ``""`` and ``"0"`` are the same, so the first stretch may look like the end: hence two of them.
    """
    made = [
        ((*(_order(letter) for letter in letters), 0), number(digits))
        for letters, digits in _PARTS.findall(text)
    ]
    while made and made[-1] == _END:
        made.pop()
    return (*made, _END, _END)


def _order(letter: str) -> int:
    """``~`` before the end (0), the end before letters, letters before the rest."""
    if letter == "~":
        return -1
    return ord(letter) if letter.isascii() and letter.isalpha() else ord(letter) + 256
