"""Whether an app can be where somebody wants it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from slipway.delivery.engine import AppRef, Move
from slipway.delivery.placements import Placement
from slipway.engines.spread.parts import is_whole
from slipway.engines.spread.placing import Choice
from slipway.errors import Conflict, NotFound, Unavailable


def asked_for(app: AppRef, move: Move, recorded: Placement, bound: Mapping[str, int]) -> Choice:
    """Where a person wants it. Raises ``Conflict`` for an app that is on several, or there already, ``NotFound``."""
    if move.to not in bound:
        raise NotFound(
            f"the project {app.project!r} does not use a cluster {move.to!r}",
            hint=f"slipway cluster bind {move.to} --project {app.project}",
        )
    if not is_whole(move.wanted.release.model):
        raise Conflict(
            f"{app} is spread by weight: it goes where its project's clusters are",
            hint=f"slipway cluster bind CLUSTER --project {app.project} --weight N",
        )
    if recorded.home == move.to:
        raise Conflict(f"{app} is on {move.to} already")
    return Choice(move.to, {move.to: 1}, whole=True)


def check_reachable(
    app: AppRef, choice: Choice, failed: Collection[str], reason: Callable[[str], str]
) -> None:
    """Raises ``Unavailable`` at once where waiting would be in vain. ``reason``: what is wrong with a cluster."""
    for name in choice.weights:
        if name in failed:
            hint = f"slipway app move {app.name} --to CLUSTER takes it elsewhere, without its volumes' data"
            raise Unavailable(
                f"the cluster {name} is away: {reason(name)}",
                hint=hint if choice.whole else "slipway cluster show",
            )
