"""What a project's images may be, how long they stay, and who gets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Self

from slipway.errors import Invalid

SEVERITIES = ("low", "medium", "high", "critical")
_MOST_RULES = 50


@dataclass(frozen=True, slots=True)
class TagPattern:
    """``TAG`` or ``REPOSITORY:TAG`` with shell wildcards; the repository is named without its project."""

    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Self:
        repository, colon, tag = text.rpartition(":")
        if not tag or len(text) > 300 or (colon and not repository):
            raise Invalid(
                f"not a pattern: {text[:100]!r}", hint="TAG or REPOSITORY:TAG, e.g. 'v*' or 'web:v*'"
            )
        return cls(repository or "*", tag)

    def matches(self, repository: str, tag: str) -> bool:
        """``repository`` with its project in front."""
        return fnmatchcase(tag, self.tag) and fnmatchcase(repository.partition("/")[2], self.repository)

    def __str__(self) -> str:
        return self.tag if self.repository == "*" else f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class KeepRule:
    """Of the tags that match, keep the ``last`` N of a repository, those pushed or pulled within so many days."""

    match: TagPattern
    last: int = 0
    pushed_days: float = 0
    pulled_days: float = 0

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        known = {name: value[name] for name in ("last", "pushed_days", "pulled_days") if value.get(name)}
        found = cls(TagPattern.parse(str(value.get("match", ""))), **known)
        if not known or any(item < 0 for item in known.values()):
            raise Invalid(
                f"the rule for {found.match} says nothing to keep", hint="last, pushed_days or pulled_days"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        kept = {"last": self.last, "pushed_days": self.pushed_days, "pulled_days": self.pulled_days}
        return {"match": str(self.match), **{name: item for name, item in kept.items() if item}}


@dataclass(frozen=True, slots=True)
class RegistryPolicy:
    """``quota``: bytes of all images of the project, a blob counted once; ``None`` is no limit.

    ``immutable``: such tags stay where they are once they are there. ``retention``: a tag that at least one rule
    matches stays if one of these keeps it; tags that no rule matches stay. ``untagged_days``: images without a tag are
    removed so long after their push (0: never). ``trash_hours``: how long what was deleted can be restored.
    ``require_signature`` and ``block_severity`` decide which images can be pulled.
    """

    quota: int | None = None
    immutable: tuple[TagPattern, ...] = ()
    retention: tuple[KeepRule, ...] = ()
    untagged_days: float = 0
    trash_hours: float = 24
    require_signature: bool = False
    block_severity: str = ""

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> Self:
        """From JSON. Raises ``Invalid``; fields of another version are passed over."""
        given = {item.name: value[item.name] for item in fields(cls) if value and item.name in value}
        given["immutable"] = tuple(TagPattern.parse(text) for text in given.get("immutable") or ())
        given["retention"] = tuple(KeepRule.parse(item) for item in given.get("retention") or ())
        found = cls(**given)
        if found.quota is not None and found.quota < 0:
            raise Invalid("a quota is a number of bytes, 0 or more")
        if found.trash_hours < 0 or found.untagged_days < 0:
            raise Invalid("a time must be 0 or more")
        if found.block_severity not in ("", *SEVERITIES):
            raise Invalid(
                f"not a severity: {found.block_severity[:40]!r}", hint=f"one of {', '.join(SEVERITIES)}"
            )
        if len(found.retention) > _MOST_RULES or len(found.immutable) > _MOST_RULES:
            raise Invalid(f"a project has at most {_MOST_RULES} rules of a kind")
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "quota": self.quota,
            "immutable": [str(item) for item in self.immutable],
            "retention": [rule.to_json() for rule in self.retention],
            "untagged_days": self.untagged_days,
            "trash_hours": self.trash_hours,
            "require_signature": self.require_signature,
            "block_severity": self.block_severity,
        }

    @property
    def trash(self) -> timedelta:
        return timedelta(hours=self.trash_hours)

    def is_immutable(self, repository: str, tag: str) -> bool:
        return any(pattern.matches(repository, tag) for pattern in self.immutable)
