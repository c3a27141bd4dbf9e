"""One OSV record as a value. The document may come from anybody: every part has a limit and a type that is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.errors import Invalid
from slipway.registry.findings import severity
from slipway.registry.findings.advisories import Advisory, Affected, Event, Range

KINDS = ("introduced", "fixed", "last_affected", "limit")
_MAX_NAME, _MAX_SUMMARY = 500, 1000
_MAX_ALIASES, _MAX_AFFECTED, _MAX_RANGES, _MAX_EVENTS, _MAX_VERSIONS = 1000, 20_000, 1000, 10_000, 100_000


def parse(value: object) -> Advisory | None:
    """The advisory of a decoded record, ``None`` if it was withdrawn. Raises ``Invalid``.

    Unknown fields and range types are passed over, as the schema asks; a known field of the wrong type is an error,
    because leaving out an event would change which versions are meant. ``GIT`` ranges say nothing of packages.
    """
    if not isinstance(value, dict):
        raise Invalid("an OSV record is an object", hint="see ossf.github.io/osv-schema")
    name = _text(value.get("id"), "id")
    if value.get("withdrawn"):
        return None
    details = value.get("summary") or value.get("details") or ""
    affected = [_affected(item) for item in _list(value, "affected", _MAX_AFFECTED)]
    return Advisory(
        name,
        tuple(_text(item, "aliases") for item in _list(value, "aliases", _MAX_ALIASES)),
        tuple(_text(item, "upstream") for item in _list(value, "upstream", _MAX_ALIASES)),
        _clean(details.strip().partition("\n")[0][:_MAX_SUMMARY]) if isinstance(details, str) else "",
        severity.of_record(value),
        tuple(item for item in affected if item is not None),
        _text(value.get("modified") or "?", "modified"),
    )


def _affected(value: object) -> Affected | None:
    """``None`` for what names no package (commits of a repository)."""
    if not isinstance(value, dict):
        raise Invalid("affected: an object is wanted")
    package = value.get("package")
    if package is None:
        return None
    if not isinstance(package, dict):
        raise Invalid("affected.package: an object is wanted")
    ranges = [_range(item) for item in _list(value, "ranges", _MAX_RANGES)]
    return Affected(
        _text(package.get("ecosystem"), "affected.package.ecosystem"),
        _text(package.get("name"), "affected.package.name"),
        tuple(item for item in ranges if item is not None),
        frozenset(_text(item, "affected.versions") for item in _list(value, "versions", _MAX_VERSIONS)),
        severity.of_affected(value),
    )


def _range(value: object) -> Range | None:
    if not isinstance(value, dict):
        raise Invalid("affected.ranges: an object is wanted")
    if value.get("type") not in ("SEMVER", "ECOSYSTEM"):
        return None
    events = []
    for item in _list(value, "events", _MAX_EVENTS):
        if not isinstance(item, dict):
            raise Invalid("affected.ranges.events: an object is wanted")
        # The schema allows one kind in an object; older documents have two, and mean both.
        events += [Event(kind, _text(item[kind], kind)) for kind in KINDS if kind in item]
    return Range(value["type"], tuple(events)) if events else None


def _list(value: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Invalid(f"{name}: a list is wanted")
    if len(found) > limit:
        raise Invalid(f"{name}: {len(found)} entries, at most {limit} are read")
    return found


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"{name}: a text is wanted")
    if len(value) > _MAX_NAME:
        raise Invalid(f"{name}: {len(value)} characters, at most {_MAX_NAME} are read")
    return _clean(value.strip())


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which no encoding takes, and without control characters."""
    if text.isprintable():
        return text
    text = text.encode(errors="replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
