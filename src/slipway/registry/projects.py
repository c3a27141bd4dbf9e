"""What was set for projects, parsed: asked for with every request, it must cost nothing.

A change made by this process holds at once (``forget``), one by another within two seconds.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass

from slipway.registry.policy import RegistryPolicy
from slipway.registry.upstream import SECTION, Upstream
from slipway.state import Database

_SECONDS = 2.0
_MOST = 10_000
_POLICY = "SELECT policy FROM projects WHERE name = :project"


@dataclass(frozen=True, slots=True)
class Rules:
    """``upstream`` is the registry that the project stands for, if it does."""

    policy: RegistryPolicy
    upstream: Upstream | None


_NOTHING_SET = Rules(RegistryPolicy(), None)


class ProjectRules:
    """The rules of projects by name; those of a project that is not there say nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, tuple[float, Rules]] = OrderedDict()
        self._changes = 0

    async def of(self, project: str) -> Rules:
        """Raises ``Invalid`` for what cannot be understood."""
        known = self._known.get(project)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        began = self._changes
        rows = await self._database.look_up(_POLICY, project=project)
        found = rows[0][0] if rows else None
        if isinstance(found, str):  # as databases without such a type keep it
            found = json.loads(found)
        rules = _NOTHING_SET
        if found:
            upstream = found.get(SECTION)
            policy = RegistryPolicy.parse(found.get("registry"))
            rules = Rules(policy, Upstream.parse(upstream) if upstream else None)
        if began == self._changes:  # else it may have been read before a change and come after it
            self._known[project] = (time.monotonic() + _SECONDS, rules)
            self._known.move_to_end(project)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return rules

    def forget(self, project: str) -> None:
        """Its rules have changed."""
        self._changes += 1
        self._known.pop(project, None)
