"""On which clusters apps are, as the database has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update

from slipway.access.audit import record
from slipway.delivery.engine import AppRef
from slipway.state import Database
from slipway.state.tables import App
from slipway.state.tables import Project as ProjectRow

ACTOR = "reconciliation"
MOVED = "app.moved"


@dataclass(frozen=True, slots=True)
class Shift:
    """That instances went from clusters to others without anybody's asking for it, and why."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an app is.

    ``weights``: the clusters that carry it, and by what its instances are divided. ``home``: that of what is there
    once, a whole app or the jobs of one that is spread. ``on``: every cluster where something of it may be, also what
    is to go. ``away``: whose share others carry since that time (ISO 8601). ``left``: where its volumes' data was left.
    """

    home: str = ""
    weights: Mapping[str, int] = field(default_factory=dict)
    on: frozenset[str] = frozenset()
    away: Mapping[str, str] = field(default_factory=dict)
    left: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        return {
            "home": self.home, "weights": dict(sorted(self.weights.items())), "on": sorted(self.on),
            "away": dict(sorted(self.away.items())), "left": sorted(self.left),
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Placement:
        """Lenient: fields that an earlier version did not write are empty."""
        return cls(
            str(value.get("home", "")),
            {str(name): int(weight) for name, weight in (value.get("weights") or {}).items()},
            frozenset(value.get("on") or ()),
            dict(value.get("away") or {}),
            frozenset(value.get("left") or ()),
        )


class Placements:
    """One for each app that was ever put on a cluster."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, ref: AppRef) -> Placement:
        query = (
            select(App.placement).join(ProjectRow).where(ProjectRow.name == ref.project, App.name == ref.name)
        )
        async with self._database.read() as session:
            return Placement.from_json(await session.scalar(query) or {})

    async def all(self) -> dict[AppRef, Placement]:
        """By one question; apps without one are not among them."""
        query = select(ProjectRow.name, App.name, App.placement).join_from(App, ProjectRow)
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        return {
            AppRef(project, name): Placement.from_json(placement)
            for project, name, placement in rows
            if placement
        }

    async def any_in(self, project: str) -> bool:
        """Whether an app of the project is, or was, on a cluster."""
        query = select(App.placement).join(ProjectRow).where(ProjectRow.name == project)
        async with self._database.read() as session:
            return any(await session.scalars(query))

    async def put(self, ref: AppRef, placement: Placement, shift: Shift | None = None) -> None:
        """Of an app that is gone meanwhile nothing is kept. ``shift`` goes into the audit, in the same transaction."""
        project = select(ProjectRow.id).where(ProjectRow.name == ref.project).scalar_subquery()
        query = update(App).where(App.project_id == project, App.name == ref.name)
        async with self._database.session() as session:
            found = await session.execute(query.values(placement=placement.to_json()).returning(App.id))
            if shift is not None and found.all():
                detail = {
                    "app": ref.name, "from": list(shift.source), "to": list(shift.target), "reason": shift.reason,
                }  # fmt: skip
                record(session, MOVED, str(ref), by=ACTOR, project=ref.project, detail=detail)
