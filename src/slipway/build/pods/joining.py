"""Steps that workers carry out now: an identical one of another build of the project waits for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from slipway.errors import Exhausted

WAIT_SECONDS = 20.0
"""For so long a question waits for its answer; then it is asked again."""
_MOST = 10_000  # steps that one build has under way


@dataclass(slots=True)
class _Step:
    owner: object
    wanted: Callable[[], None]
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Joining:
    """By key and project. Who has a step and fails, or goes, leaves it to the next that asks.

    Only within a project: who breaks out of a RUN into its worker could keep others waiting for what it never does.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[str, str], _Step] = {}
        self.waiting = 0

    async def begin(self, project: str, key: str, owner: object, wanted: Callable[[], None]) -> bool:
        """Whether the step is ``owner``'s now. If not, somebody had it, and it is over or still going on.

        ``wanted`` is called when another waits for it. Raises ``Exhausted``.
        """
        found = self._steps.get((project, key))
        if found is None or found.owner is owner:
            if sum(step.owner is owner for step in self._steps.values()) >= _MOST:
                raise Exhausted(f"a build has at most {_MOST} steps under way")
            self._steps[project, key] = _Step(owner, wanted)
            return True
        found.wanted()
        self.waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await found.over.wait()
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
        return False

    def end(self, project: str, key: str, owner: object) -> None:
        """The step is done, or ``owner`` could not do it. Somebody else's stays as it is."""
        found = self._steps.get((project, key))
        if found is not None and found.owner is owner:
            del self._steps[project, key]
            found.over.set()

    def leave(self, owner: object) -> None:
        """``owner`` is gone."""
        for (project, key), step in list(self._steps.items()):
            if step.owner is owner:
                self.end(project, key, owner)
