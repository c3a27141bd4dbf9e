"""The record of what was done and what was refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access.identity import Identity
from slipway.base.clock import now
from slipway.state import Database
from slipway.state.tables import AuditEvent as Row

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """``allowed`` is false for what was refused. ``project`` is empty for what concerns the whole platform."""

    id: int
    moment: datetime
    actor: str
    action: str
    target: str
    project: str
    allowed: bool
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What all is left out that is not asked for. ``action`` may end in ``*``. ``before`` is an event's id."""

    project: str = ""
    actor: str = ""
    action: str = ""
    denied: bool = False
    since: datetime | None = None
    until: datetime | None = None
    before: int = 0

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.project:
            found.append(Row.project == self.project)
        if self.actor:
            found.append(Row.actor == self.actor)
        if self.action.endswith("*"):
            found.append(Row.action.startswith(self.action[:-1], autoescape=True))
        elif self.action:
            found.append(Row.action == self.action)
        if self.denied:
            found.append(Row.allowed.is_(False))
        if self.since is not None:
            found.append(Row.moment >= self.since)
        if self.until is not None:
            found.append(Row.moment < self.until)
        if self.before:
            found.append(Row.id < self.before)
        return found


def record(
    session: AsyncSession, action: str, target: str, *, by: str, project: str = "", allowed: bool = True,
    detail: Mapping[str, Any] | None = None,
) -> datetime:  # fmt: skip
    """Adds an event to a transaction: it is there with what that does, or not at all. Returns its moment.

    ``by``: the name of who did it. ``project``: empty for what concerns the whole platform. ``detail``: JSON.
    """
    moment = now()
    session.add(
        Row(
            moment=moment, actor=by, action=action, target=target, project=project, allowed=allowed,
            detail=dict(detail or {}),
        )
    )  # fmt: skip
    return moment


class AuditLog:
    """Events of their own, for what has no transaction to ``record`` them in, and all events to be read.

    Nobody changes an event.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        identity: Identity,
        action: str,
        target: str,
        *,
        project: str = "",
        allowed: bool = True,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """An event in a transaction of its own."""
        async with self._database.session() as session:
            record(session, action, target, by=identity.name, project=project, allowed=allowed, detail=detail)

    async def events(self, wanted: AuditFilter, count: int) -> list[AuditEvent]:
        """Newest first."""
        query = select(Row).where(*wanted.conditions()).order_by(Row.id.desc()).limit(count)
        async with self._database.read() as session:
            return [_event(row) for row in await session.scalars(query)]

    async def all(self, wanted: AuditFilter) -> AsyncIterator[AuditEvent]:
        """Oldest first, a page at a time: no state of the database is held while somebody reads slowly."""
        last = 0
        while True:
            query = select(Row).where(*wanted.conditions(), Row.id > last).order_by(Row.id).limit(_PAGE)
            async with self._database.read() as session:
                rows = [_event(row) for row in await session.scalars(query)]
            for event in rows:
                yield event
            if len(rows) < _PAGE:
                return
            last = rows[-1].id


def _event(row: Row) -> AuditEvent:
    return AuditEvent(
        row.id, row.moment, row.actor, row.action, row.target, row.project, row.allowed, dict(row.detail)
    )
