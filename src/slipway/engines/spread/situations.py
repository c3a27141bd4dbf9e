"""Where an app is among its clusters, and where it should be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from slipway.compose import Project
from slipway.delivery.engine import AppRef
from slipway.delivery.placements import Placement, Placements
from slipway.engines.spread.members import Members
from slipway.engines.spread.placing import Choice, before_records, choose


@dataclass(frozen=True, slots=True)
class Situation:
    """One app among its clusters. ``stored``: whether ``recorded`` is in the database, and not only concluded."""

    recorded: Placement
    choice: Choice
    failed: frozenset[str]
    stored: bool = True


@dataclass(frozen=True, slots=True)
class Situations:
    """Of apps, as they are now. Raises ``Conflict`` when there is no cluster for one.

    ``serves``: a release did before, so that the app is somewhere, whether recorded or not.
    """

    members: Members
    placements: Placements

    async def of(self, app: AppRef, model: Project, serves: bool) -> Situation:
        bound, recorded = await asyncio.gather(self.members.weights(app.project), self.placements.get(app))
        return self.judged(model, bound, recorded, serves)

    def judged(
        self, model: Project, bound: Mapping[str, int], recorded: Placement, serves: bool
    ) -> Situation:
        """By what is known already; ``bound``: the weights of the project's clusters."""
        stored = bool(recorded.on) or not serves
        if not stored:
            recorded = before_records(bound)
        failed = frozenset(name for name in bound.keys() | recorded.on if self._has_failed(name, recorded))
        return Situation(recorded, choose(model, bound, failed, recorded), failed, stored)

    def _has_failed(self, name: str, recorded: Placement) -> bool:
        """One whose shares others carry comes back when it is well, not when nobody has looked at it yet."""
        health = self.members.health(name)
        return health.failed or (name in recorded.away and not health.well)
