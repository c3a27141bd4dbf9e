"""What is known to be wrong with the packages of an image.

A package is looked up under the name of its source where its distribution's advisories are about sources, and the
source's version is compared; everything is decided by the versions, nothing by what a package might be used for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.registry.findings import grouping
from slipway.registry.findings.advisories import Advisory, Level
from slipway.registry.findings.ecosystems import Home, home
from slipway.registry.findings.finding import Finding
from slipway.registry.findings.index import Lookup
from slipway.registry.findings.purls import Installed, packages_of
from slipway.registry.findings.ranges import first_fixed, is_affected
from slipway.registry.findings.severity import for_package

_MOST_REASONS, _LONGEST_REASON = 50, 200


@dataclass(frozen=True, slots=True)
class Matches:
    """``findings``, the worst first. ``checked`` packages were looked up; ``unchecked`` says of how many others
    nothing is known, and why: no finding for them is no statement."""

    findings: tuple[Finding, ...]
    checked: int
    unchecked: Mapping[str, int]

    @property
    def worst(self) -> Level | None:
        """The highest level there is, ``None`` without findings."""
        return max(
            (item.severity.level for item in self.findings), key=lambda level: level.rank, default=None
        )


def match_document(document: Mapping[str, Any], advisories: Lookup) -> Matches:
    """The findings for a decoded SPDX 2.3 document. Raises ``Invalid`` if it is none."""
    return match(packages_of(document), advisories)


def match(packages: Iterable[Installed], advisories: Lookup) -> Matches:
    """The findings for these packages. Blocks while the index is read."""
    known = advisories.ecosystems()
    covered: dict[tuple[str, str, str], bool] = {}
    cache: dict[tuple[str, str, str, str], list[Advisory]] = {}
    unchecked: Counter[str] = Counter()
    findings: list[Finding] = []
    checked = 0
    for package in packages:
        place = home(package)
        if isinstance(place, str):
            _count(unchecked, place)
            continue
        where = (place.base, package.distribution, package.release)
        if where not in covered:
            covered[where] = any(map(place.means, known))
        if not covered[where]:
            _count(unchecked, f"there are no advisories of {' '.join(where)}".rstrip())
            continue
        checked += 1
        told: list[Finding] = []
        for name, version in _names(package):
            # Binaries of one source ask the same.
            key = (*where, name)
            if key not in cache:
                cache[key] = advisories.lookup(place.base, name, place.means)
            told += _findings(package, name, version, place, cache[key])
        findings += grouping.grouped(told, place.scheme)
    return Matches(tuple(sorted(findings, key=_order)), checked, dict(sorted(unchecked.items())))


def _count(unchecked: Counter[str], reason: str) -> None:
    """The reasons have words of the document in them: they are short, and not many."""
    reason = reason[:_LONGEST_REASON]
    unchecked[reason if reason in unchecked or len(unchecked) < _MOST_REASONS else "for other reasons"] += 1


def _names(package: Installed) -> list[tuple[str, str]]:
    """What to look up, with the version that counts there.

    Debian, Ubuntu and Alpine name sources. Of the distributions with RPMs some name sources (SUSE, Rocky), some what
    is installed (AlmaLinux, Red Hat), and Wolfi has either; a binary's name that is also another source's is rare
    there. Languages have no sources.
    """
    names = [(package.source, package.source_version)] if package.source else []
    both = package.kind == "rpm" or package.distribution in ("wolfi", "chainguard")
    if not names or (both and package.name != package.source):
        names.append((package.name, package.version))
    return names


def _findings(
    package: Installed, name: str, version: str, place: Home, advisories: Iterable[Advisory]
) -> Iterable[Finding]:
    for advisory in advisories:
        entries = advisory.affected
        hit = next((item for item in entries if is_affected(version, [item], place.scheme)), None)
        if hit is not None:
            yield Finding(
                advisory.id,
                advisory.aliases,
                advisory.upstream,
                advisory.summary,
                package.name,
                package.purl,
                package.version,
                name,
                first_fixed(version, entries, place.scheme),
                for_package(advisory.severity, hit.severity),
            )


def _order(finding: Finding) -> tuple[int, float, str, str, str]:
    severity = finding.severity
    return -severity.level.rank, -(severity.score or 0.0), finding.package, finding.id, finding.purl
