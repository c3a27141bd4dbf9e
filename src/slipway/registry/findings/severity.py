"""How bad an advisory is, from the several places where a record may say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.registry.findings import cvss
from slipway.registry.findings.advisories import Level, Severity

_WORDS = {
    "critical": Level.CRITICAL,
    "high": Level.HIGH,
    "important": Level.HIGH,
    "medium": Level.MEDIUM,
    "moderate": Level.MEDIUM,
    "low": Level.LOW,
    "minor": Level.LOW,
    "negligible": Level.LOW,
    # Debian: there is a flaw in the source, but it does no harm in the package as it is built.
    "unimportant": Level.LOW,
}
_HARMLESS = "the distribution calls it unimportant"
_PLACES = ("severity", "urgency")
_MOST_VECTORS = 20


def of_record(record: Mapping[str, Any]) -> Severity:
    """An advisory's own severity. A package that is malicious as a whole is critical without a score."""
    found = _told(record.get("severity"), [("database_specific", record.get("database_specific"))])
    if found is None and str(record.get("id", "")).startswith("MAL-"):
        return Severity(Level.CRITICAL, None, "a malicious package")
    return found or Severity()


def of_affected(affected: Mapping[str, Any]) -> Severity | None:
    """What is said for this package alone; ``None`` if nothing is."""
    places = [(name, affected.get(name)) for name in ("ecosystem_specific", "database_specific")]
    for _, place in places:
        if isinstance(place, Mapping) and place.get("urgency") == "unimportant":
            return Severity(Level.LOW, None, _HARMLESS)
    return _told(affected.get("severity"), places)


def for_package(whole: Severity, own: Severity | None) -> Severity:
    """The severity for one package: its own score, the advisory's score or word, its own word, in this order."""
    if own is None:
        return whole
    return own if own.score is not None or own.basis == _HARMLESS or whole.level is Level.UNKNOWN else whole


def of_score(score: float, version: int = 3) -> Level:
    """CVSS's qualitative scale; version 2 has no *critical*. A score of zero is told as low, not hidden."""
    if score >= 9.0 and version > 2:
        return Level.CRITICAL
    if score >= 7.0:
        return Level.HIGH
    return Level.MEDIUM if score >= 4.0 else Level.LOW


def _told(entries: object, places: Sequence[tuple[str, object]]) -> Severity | None:
    """A score that can be computed goes before the database's word, the word before an estimate and version 2."""
    vectors = _vectors(entries)
    scores = [score for vector in vectors.get("CVSS_V3", ()) if (score := cvss.v3(vector)) is not None]
    if scores:
        return Severity(of_score(max(scores)), max(scores), "CVSS_V3")
    word = _word(vectors, places)
    if word is not None:
        return word
    scores = [
        score for vector in vectors.get("CVSS_V4", ()) if (score := cvss.v4_estimate(vector)) is not None
    ]
    if scores:
        return Severity(of_score(max(scores)), None, "CVSS_V4, estimated")
    scores = [score for vector in vectors.get("CVSS_V2", ()) if (score := cvss.v2(vector)) is not None]
    if scores:
        return Severity(of_score(max(scores), 2), max(scores), "CVSS_V2")
    return None


def _vectors(entries: object) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries[:_MOST_VECTORS] if isinstance(entries, list) else ():
        if (
            isinstance(entry, dict)
            and isinstance(entry.get("type"), str)
            and isinstance(entry.get("score"), str)
        ):
            found.setdefault(entry["type"], []).append(entry["score"])
    return found


def _word(vectors: Mapping[str, Sequence[str]], places: Sequence[tuple[str, object]]) -> Severity | None:
    """``Ubuntu`` has its word among the vectors, GitHub in ``database_specific``, Debian an urgency."""
    told = [(f"severity.{kind}", word) for kind in ("Ubuntu",) for word in vectors.get(kind, ())]
    for name, place in places:
        if isinstance(place, Mapping):
            told += [(f"{name}.{key}", word) for key in _PLACES if isinstance(word := place.get(key), str)]
    for basis, word in told:
        # Debian marks what it has not looked at by hand: ``low**``.
        level = _WORDS.get(word.strip().rstrip("*").lower()[:20])
        if level is not None:
            return Severity(level, None, basis)
    return None
