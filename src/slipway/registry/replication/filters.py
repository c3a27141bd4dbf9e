"""Which of a registry's images a site has to do with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class SiteFilter:
    """Empty means everything. ``repositories`` and ``tags`` have wildcards; ``labels`` are KEY or KEY=VALUE, and an
    image has to have all of them."""

    projects: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        return cls(*(tuple(value.get(name) or ()) for name in ("projects", "repositories", "tags", "labels")))

    def wants(self, repository: str, tag: str) -> bool:
        return self.wants_repository(repository) and _any(self.tags, tag)

    def wants_repository(self, repository: str) -> bool:
        return _any(self.projects, repository.partition("/")[0]) and _any(self.repositories, repository)

    def wants_labels(self, labels: Iterable[Mapping[str, str]]) -> bool:
        """``labels`` of each image that a tag stands for; one of them is enough."""
        return not self.labels or any(all(_has(item, text) for text in self.labels) for item in labels)


def _any(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def _has(labels: Mapping[str, str], text: str) -> bool:
    key, sign, value = text.partition("=")
    return key in labels and (not sign or labels[key] == value)
