"""What matching needs to know of an advisory, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How bad it is, in the words of CVSS; ``rank`` puts them in order."""

    UNKNOWN = "unknown"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


@dataclass(frozen=True, slots=True)
class Severity:
    """``score`` is CVSS's number if a vector gave it; ``basis`` says what the level was taken from."""

    level: Level = Level.UNKNOWN
    score: float | None = None
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """``kind`` is ``introduced``, ``fixed``, ``last_affected`` or ``limit``."""

    kind: str
    version: str


@dataclass(frozen=True, slots=True)
class Range:
    """``kind`` is ``SEMVER`` or ``ECOSYSTEM``; events are in the order of the document."""

    kind: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Affected:
    """One package in one ecosystem (``Debian:12``), and which of its versions. ``severity`` is its own, if told."""

    ecosystem: str
    name: str
    ranges: tuple[Range, ...] = ()
    versions: frozenset[str] = frozenset()
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Advisory:
    """``aliases`` are other names of the same thing; ``upstream`` names what a distribution's advisory passes on
    (the CVEs of a DSA)."""

    id: str
    aliases: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    summary: str = ""
    severity: Severity = field(default_factory=Severity)
    affected: tuple[Affected, ...] = ()
    modified: str = ""
