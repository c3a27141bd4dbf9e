"""Which clusters carry an app. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from slipway.compose import Project
from slipway.delivery.placements import Placement, Shift
from slipway.engines.spread.parts import is_whole, keeps_data
from slipway.errors import Conflict


@dataclass(frozen=True, slots=True)
class Choice:
    """Where an app should be: ``weights`` of the clusters that carry it, and its ``home``.

    ``whole``: it is on that alone.
    """

    home: str
    weights: Mapping[str, int]
    whole: bool = False

    def is_so(self, recorded: Placement) -> bool:
        return dict(recorded.weights) == dict(self.weights)


def choose(model: Project, bound: Mapping[str, int], failed: Collection[str], recorded: Placement) -> Choice:
    """``bound``: the project's clusters. What is there stays where it can; data stays where it is.

    Raises ``Conflict`` when there is no cluster for it.
    """
    if recorded.home and keeps_data(model):
        return Choice(recorded.home, {recorded.home: 1}, whole=True)
    open_ = {name: weight for name, weight in bound.items() if weight > 0}
    # With no cluster that takes anything new, what is there stays.
    open_ = open_ or dict(recorded.weights)
    if not open_:
        raise Conflict(
            "no cluster of the project takes apps", hint="slipway cluster bind CLUSTER --project … --weight 1"
        )
    live = {name: weight for name, weight in open_.items() if name not in failed} or open_
    home = recorded.home if recorded.home in live else heaviest(live)
    if is_whole(model):
        return Choice(home, {home: 1}, whole=True)
    return Choice(home, live)


def heaviest(weights: Mapping[str, int]) -> str:
    """The first by name of those with the greatest weight."""
    return min(weights, key=lambda name: (-weights[name], name))


def before_records(bound: Mapping[str, int]) -> Placement:
    """Of an app that serves and has no record: earlier versions had each on the heaviest cluster."""
    used = {name: weight for name, weight in bound.items() if weight > 0}
    if not used:
        return Placement()
    home = heaviest(used)
    return Placement(home, {home: 1}, frozenset({home}))


def without(recorded: Placement, failed: Collection[str], choice: Choice, since: str) -> Placement:
    """As recorded, but what carries it has not failed, if ``choice`` knows such a cluster.

    A spread app keeps its home: jobs that ran there are not run again because another cluster takes the shares.
    """
    lost = [name for name in recorded.weights if name in failed]
    rest = {name: weight for name, weight in recorded.weights.items() if name not in failed}
    weights = rest or dict(choice.weights)
    if not lost or not weights.keys() - set(failed):
        return recorded
    home = choice.home if choice.whole else recorded.home
    away = {**recorded.away, **dict.fromkeys(lost, since)}
    return replace(recorded, home=home, weights=weights, on=recorded.on | weights.keys(), away=away)


def settled(recorded: Placement, choice: Choice, *, keep_home: bool = False) -> Placement:
    """As it is recorded when ``choice`` is true. ``keep_home``: jobs stay where they ran."""
    home = recorded.home if keep_home and recorded.home and not choice.whole else choice.home
    away = {name: since for name, since in recorded.away.items() if name not in choice.weights}
    return replace(
        recorded, home=home, weights=dict(choice.weights), on=recorded.on | choice.weights.keys(), away=away
    )


def shift_of(before: Placement, after: Placement, reason: Callable[[str], str]) -> Shift | None:
    """What there is to tell of the way from ``before`` to ``after``, if instances went from somewhere to elsewhere.

    ``reason``: what is wrong with a cluster that failed.
    """
    had, has = _parts(before.weights), _parts(after.weights)
    source = tuple(sorted(name for name in had if has.get(name, 0) < had[name]))
    target = tuple(sorted(name for name in has if had.get(name, 0) < has[name]))
    if not (source and target):
        return None
    failed = sorted(after.away.keys() - before.away.keys())
    back = sorted(before.away.keys() & after.weights.keys())
    if failed:
        why = "; ".join(f"{name} failed: {reason(name)}" for name in failed)
    elif back:
        why = f"{', '.join(back)} answers again"
    else:
        why = "the clusters of the project, or their weights, have changed"
    return Shift(source, target, why)


def _parts(weights: Mapping[str, int]) -> dict[str, Fraction]:
    """Each one's of all."""
    total = sum(weights.values())
    return {name: Fraction(weight, total) for name, weight in weights.items() if weight > 0}
