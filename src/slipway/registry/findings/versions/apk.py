"""Alpine and its kin: ``digits{.digits}[letter]{_suffix[digits]}[~commit][-r digits]`` (apk-package(5)).

The order is that of apk-tools 3: where two versions part, the one that goes on with a number is later than one that
goes on with a letter, then a suffix, a commit, a revision, nothing; a suffix of a pre-release is before nothing.
"""

from __future__ import annotations

import re

from slipway.registry.findings.versions.keys import Key, number

_VERSION = re.compile(
    r"(?P<first>[0-9]+)(?P<more>(?:\.[0-9]+)*)(?P<letter>[a-z]?)"
    r"(?P<suffixes>(?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)(?![a-z])[0-9]*)*)"
    r"(?P<commit>~[0-9a-fA-F]+)?(?P<revision>-r[0-9]+)?"
)
_SUFFIX = re.compile(r"_([a-z]+)([0-9]*)")
_BEFORE = {word: rank for rank, word in enumerate(("alpha", "beta", "pre", "rc"))}
_AFTER = {word: rank for rank, word in enumerate(("cvs", "svn", "git", "hg", "p"))}
_PRE_RELEASE, _JUNK, _END, _REVISION, _COMMIT, _SUFFIX_NUMBER, _POST_RELEASE, _LETTER, _DIGITS = range(9)


def key(text: str) -> Key:
    text = text.strip()
    found = _VERSION.match(text)
    if found is None:
        return (_JUNK, text), (_END,)
    parts: list[Key] = [(_DIGITS, 1, number(found["first"]))]
    parts += [_fraction(digits) for digits in found["more"].split(".")[1:]]
    if found["letter"]:
        parts.append((_LETTER, found["letter"]))
    for word, digits in _SUFFIX.findall(found["suffixes"]):
        parts.append((_PRE_RELEASE, _BEFORE[word]) if word in _BEFORE else (_POST_RELEASE, _AFTER[word]))
        if digits:
            parts.append((_SUFFIX_NUMBER, number(digits)))
    if found["commit"]:
        parts.append((_COMMIT, found["commit"]))
    if found["revision"]:
        parts.append((_REVISION, number(found["revision"][2:])))
    if found.end() < len(text):
        parts.append((_JUNK, text[found.end() :]))
    return (*parts, (_END,))


def _fraction(digits: str) -> Key:
    """A number with a leading zero is compared as text, and so is before any number without one."""
    return (_DIGITS, 0, digits) if digits[0] == "0" else (_DIGITS, 1, number(digits))
