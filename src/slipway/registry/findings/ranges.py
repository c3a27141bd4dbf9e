"""Whether a version is affected: the evaluation algorithm of the OSV schema."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slipway.registry.findings.advisories import Affected, Event, Range
from slipway.registry.findings.versions import Key, Scheme, semver

# Before and after every version: the special values of ``introduced`` and ``limit``.
_FIRST: Key = (0,)
_LAST: Key = (2,)
# Tried in turn; records have a handful, one a branch.
_MOST_FIXES = 50


def is_affected(version: str, entries: Iterable[Affected], scheme: Scheme) -> bool:
    """Whether any of the entries (of one package) lists the version or has it in a range."""
    return _holds(version, [_Entry.of(entry, scheme) for entry in entries], scheme)


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
    made = [_Entry.of(entry, scheme) for entry in entries] if later else []
    return next((fix for _, fix in later if not _holds(fix, made, scheme)), None)


@dataclass(frozen=True, slots=True)
class _Timeline:
    """A range with its events in order; ``semantic`` if they are in the order of SemVer, not the ecosystem's."""

    semantic: bool
    events: Sequence[tuple[Key, str]]
    limits: Sequence[Key]

    @classmethod
    def of(cls, item: Range, ecosystem: Scheme) -> _Timeline:
        semantic = item.kind == "SEMVER"
        scheme = semver.key if semantic else ecosystem
        placed = [(_place(event, scheme), event.kind) for event in item.events]
        # A last affected version is after an introduction at the same version; else the document's order stands.
        events = sorted(placed, key=lambda pair: (pair[0], pair[1] == "last_affected"))
        limits = [key for key, kind in events if kind == "limit"]
        return cls(semantic, events, limits)

    def has(self, place: Key) -> bool:
        if self.limits and not any(place < limit for limit in self.limits):
            return False
        affected = False
        for key, kind in self.events:
            if place < key:
                break
            if kind == "introduced":
                affected = True
            elif kind == "fixed" or (kind == "last_affected" and place > key):
                affected = False
        return affected


@dataclass(frozen=True, slots=True)
class _Entry:
    versions: frozenset[str]
    timelines: Sequence[_Timeline]

    @classmethod
    def of(cls, entry: Affected, scheme: Scheme) -> _Entry:
        return cls(entry.versions, [_Timeline.of(item, scheme) for item in entry.ranges])

    def lists(self, version: str, scheme: Scheme) -> bool:
        """As the same text; where there is no range to ask, also as the same version (``1.0`` and ``1.0.0``)."""
        if version in self.versions:
            return True
        if self.timelines or not self.versions:
            return False
        key = scheme(version)
        return any(scheme(item) == key for item in self.versions)


def _holds(version: str, entries: Iterable[_Entry], scheme: Scheme) -> bool:
    own, semantic = (1, scheme(version)), (1, semver.key(version))
    return any(
        entry.lists(version, scheme)
        or any(line.has(semantic if line.semantic else own) for line in entry.timelines)
        for entry in entries
    )


def _place(event: Event, scheme: Scheme) -> Key:
    if event.kind == "introduced" and event.version == "0":
        return _FIRST
    if event.kind == "limit" and event.version == "*":
        return _LAST
    return 1, scheme(event.version)
