"""What was set for projects, as of at most two seconds ago: asked for with every pull, it must cost nothing."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from sqlalchemy import select

from slipway.state import Database
from slipway.state.tables import Project

_SECONDS = 2.0
_MOST = 10_000


class ProjectSettings:
    """The sections of a project's policy by name; nothing for a project that is not there."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    async def section(self, project: str, name: str) -> dict[str, Any]:
        known = self._known.get(project)
        if known is None or time.monotonic() - known[0] > _SECONDS:
            async with self._database.read() as session:
                found = await session.scalar(select(Project.policy).where(Project.name == project))
            known = (time.monotonic(), found or {})
            self._known[project] = known
            self._known.move_to_end(project)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        value: dict[str, Any] = known[1].get(name) or {}
        return value
