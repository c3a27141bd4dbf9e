"""One finding for one flaw, where several databases tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from slipway.registry.findings.finding import Finding
from slipway.registry.findings.versions import Scheme


def grouped(findings: Sequence[Finding], scheme: Scheme) -> list[Finding]:
    """The findings of one package, those of the same flaw as one.

    Records that name each other as aliases (PYSEC and GHSA of one CVE) are the same; the one that says most stays.
    An advisory that passes on several flaws (a DSA) is left to the findings of these, if each of them is there.
    """
    merged = [_merged(group, scheme) for group in _same(findings)]
    single = {name for item in merged for name in _flaws(item) if len(_flaws(item)) == 1}
    bundles = [item for item in merged if len(_flaws(item)) > 1 and _flaws(item) <= single]
    told: dict[str, tuple[str, ...]] = {}
    for bundle in bundles:
        for name in bundle.upstream:
            told[name] = (*told.get(name, ()), bundle.id)
    left_out = {bundle.id for bundle in bundles}
    kept = [item for item in merged if item.id not in left_out]
    return [replace(item, others=(*item.others, *told.get(_name(item), ()))) for item in kept]


def _flaws(finding: Finding) -> frozenset[str]:
    """What a finding stands for: the flaws it passes on, or else itself."""
    return frozenset(finding.upstream or (finding.id,))


def _name(finding: Finding) -> str:
    """The one flaw that a finding stands for, if it is one."""
    return finding.upstream[0] if len(finding.upstream) == 1 else finding.id


def _same(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Groups whose members share a name, directly or through each other; in the order of their first members."""
    leader = list(range(len(findings)))

    def led_by(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first: dict[str, int] = {}
    for index, item in enumerate(findings):
        for name in {item.id, *item.aliases, _name(item)}:
            one, two = led_by(first.setdefault(name, index)), led_by(index)
            leader[max(one, two)] = min(one, two)
    groups: dict[int, list[Finding]] = {}
    for index, item in enumerate(findings):
        groups.setdefault(led_by(index), []).append(item)
    return list(groups.values())


def _merged(group: Sequence[Finding], scheme: Scheme) -> Finding:
    """The one with a score, then the highest level; the others' names go with it, and what is worst in any of them:
    the level, and the latest of the fixes."""
    best = max(group, key=lambda item: (item.severity.score is not None, item.severity.level.rank))
    others = {item.id for item in group} - {best.id}
    aliases = {name for item in group for name in item.aliases} - {best.id} - others
    worst = max((item.severity for item in group), key=lambda severity: severity.level.rank)
    fixed = max((item.fixed for item in group if item.fixed is not None), key=scheme, default=None)
    return replace(
        best,
        aliases=tuple(sorted(aliases)),
        others=tuple(sorted(others)),
        fixed=fixed,
        severity=best.severity if best.severity.level is worst.level else worst,
    )
