"""Whether a version is affected: the evaluation algorithm of the OSV schema."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from slipway.registry.findings.advisories import Affected, Event, Range
from slipway.registry.findings.versions import Key, Scheme, semver

# Before and after every version: the special values of ``introduced`` and ``limit``.
_FIRST: Key = (0,)
_LAST: Key = (2,)
# Tried in turn; records have a handful, one a branch.
_MOST_FIXES = 50


def is_affected(version: str, entries: Iterable[Affected], scheme: Scheme) -> bool:
    """Whether any of the entries (of one package) lists the version or has it in a range."""
    return any(
        _listed(version, entry, scheme) or _in_ranges(version, entry.ranges, scheme) for entry in entries
    )


def first_fixed(version: str, entries: Iterable[Affected], scheme: Scheme) -> str | None:
    """The lowest version after ``version`` that is named as a fix and is not itself affected."""
    entries = tuple(entries)
    told = {
        event.version
        for entry in entries
        for item in entry.ranges
        for event in item.events
        if event.kind == "fixed"
    }
    now = scheme(version)
    later = sorted((key, fix) for fix in told if (key := scheme(fix)) > now)[:_MOST_FIXES]
    return next((fix for _, fix in later if not is_affected(fix, entries, scheme)), None)


def _listed(version: str, entry: Affected, scheme: Scheme) -> bool:
    """As the same text; where there is no range to ask, also as the same version (``1.0`` and ``1.0.0``)."""
    if version in entry.versions:
        return True
    if entry.ranges or not entry.versions:
        return False
    key = scheme(version)
    return any(scheme(item) == key for item in entry.versions)


def _in_ranges(version: str, ranges: Iterable[Range], scheme: Scheme) -> bool:
    return any(_in_range(version, item, semver.key if item.kind == "SEMVER" else scheme) for item in ranges)


def _in_range(version: str, item: Range, scheme: Scheme) -> bool:
    place = (1, scheme(version))
    key = cache(lambda event: _place(event, scheme))
    limits = [key(event) for event in item.events if event.kind == "limit"]
    if limits and not any(place < limit for limit in limits):
        return False
    affected = False
    # A last affected version is after an introduction at the same version; otherwise the document's order stands.
    for event in sorted(item.events, key=lambda event: (key(event), event.kind == "last_affected")):
        if event.kind == "introduced" and place >= key(event):
            affected = True
        elif (event.kind == "fixed" and place >= key(event)) or (
            event.kind == "last_affected" and place > key(event)
        ):
            affected = False
    return affected


def _place(event: Event, scheme: Scheme) -> Key:
    if event.kind == "introduced" and event.version == "0":
        return _FIRST
    if event.kind == "limit" and event.version == "*":
        return _LAST
    return 1, scheme(event.version)
