"""Which tags a project's rules let go: decided without a look at any clock or table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway.registry.policy import KeepRule, RegistryPolicy


@dataclass(frozen=True, slots=True)
class TagFacts:
    """``pushed`` is when the tag was last pushed; ``pulled`` is ``None`` for one that nobody has pulled."""

    repository: str
    tag: str
    digest: str
    pushed: datetime
    pulled: datetime | None


@dataclass(frozen=True, slots=True)
class Verdict:
    facts: TagFacts
    keep: bool
    reason: str


def judge(tags: Iterable[TagFacts], policy: RegistryPolicy, present: datetime) -> list[Verdict]:
    """Every tag with what becomes of it, and why."""
    found = defaultdict(list)
    for item in tags:
        found[item.repository].append(item)
    verdicts: list[Verdict] = []
    for items in found.values():
        items.sort(key=lambda item: (item.pushed, item.tag), reverse=True)
        ranks = [_ranks(rule, items) for rule in policy.retention]
        verdicts += [_verdict(item, policy, ranks, present) for item in items]
    return verdicts


def _ranks(rule: KeepRule, newest_first: Sequence[TagFacts]) -> dict[str, int]:
    """The place of each tag that the rule matches among those of its repository, 1 being the latest push."""
    matching = [item.tag for item in newest_first if rule.match.matches(item.repository, item.tag)]
    return {tag: place for place, tag in enumerate(matching, 1)}


def _verdict(
    item: TagFacts, policy: RegistryPolicy, ranks: Sequence[dict[str, int]], present: datetime
) -> Verdict:
    if policy.is_immutable(item.repository, item.tag):
        return Verdict(item, True, "immutable")
    matched = [
        (rule, places[item.tag])
        for rule, places in zip(policy.retention, ranks, strict=True)
        if item.tag in places
    ]
    if not matched:
        return Verdict(item, True, "no rule is about it")
    for rule, place in matched:
        if place <= rule.last:
            return Verdict(item, True, f"number {place} of the last {rule.last} of {rule.match}")
        if present - item.pushed < timedelta(days=rule.pushed_days):
            return Verdict(item, True, f"pushed within {rule.pushed_days:g} days ({rule.match})")
        if item.pulled is not None and present - item.pulled < timedelta(days=rule.pulled_days):
            return Verdict(item, True, f"pulled within {rule.pulled_days:g} days ({rule.match})")
    return Verdict(item, False, f"kept by no rule: {', '.join(str(rule.match) for rule, _ in matched)}")
