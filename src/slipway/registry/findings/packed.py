"""Advisories as the index keeps them: short JSON lists, compressed where that is shorter."""

from __future__ import annotations

import json
import zlib
from typing import Any

from slipway.registry.findings.advisories import Advisory, Affected, Event, Level, Range, Severity

Packed = str | bytes


def of_advisory(value: Advisory) -> Packed:
    """All but ``affected``."""
    return _packed(
        [value.id, value.aliases, value.upstream, value.summary, _of_severity(value.severity), value.modified]
    )


def advisory(data: Packed) -> Advisory:
    name, aliases, upstream, summary, severity, modified = _unpacked(data)
    return Advisory(name, tuple(aliases), tuple(upstream), summary, _severity(severity), (), modified)


def of_affected(value: Affected) -> Packed:
    """All but ecosystem and name, which are in the row."""
    ranges = [[item.kind, [[event.kind, event.version] for event in item.events]] for item in value.ranges]
    severity = _of_severity(value.severity) if value.severity is not None else None
    return _packed([ranges, sorted(value.versions), severity])


def affected(data: Packed, ecosystem: str, name: str) -> Affected:
    ranges, versions, severity = _unpacked(data)
    return Affected(
        ecosystem,
        name,
        tuple(
            Range(kind, tuple(Event(word, version) for word, version in events)) for kind, events in ranges
        ),
        frozenset(versions),
        _severity(severity) if severity is not None else None,
    )


def _of_severity(value: Severity) -> list[Any]:
    return [value.level.value, value.score, value.basis]


def _severity(value: list[Any]) -> Severity:
    return Severity(Level(value[0]), value[1], value[2])


def _packed(value: list[Any]) -> Packed:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    raw = text.encode()
    short = zlib.compress(raw, 6) if len(raw) > 200 else raw
    return short if len(short) < len(raw) else text


def _unpacked(data: Packed) -> Any:
    return json.loads(zlib.decompress(data) if isinstance(data, bytes) else data)
