"""Where a machine of its own would do the work, for servers that have none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

from slipway.base.progress import Progress
from slipway.compose import Project, Refusal, Service
from slipway.delivery import AppRef, Instance, LogRecord, Move, Wanted
from slipway.delivery.commands import Command
from slipway.delivery.engine import Confirm, Place, nothing
from slipway.errors import Unsupported


class NoMachine:
    """``slipway.delivery.Engine`` of projects without a cluster: it says so."""

    def _refuse(self, project: str) -> NoReturn:
        raise Unsupported(
            f"the project {project!r} has no cluster, and this server has no machine to run apps on",
            hint=f"slipway cluster bind CLUSTER --project {project}",
        )

    def refusals(self, model: Project) -> Sequence[Refusal]:
        """Before anything is built."""
        hint = "slipway cluster bind CLUSTER --project …"
        return (
            Refusal(
                ("services",), "have nowhere to run: the project has no cluster, the server no machine", hint
            ),
        )

    async def serves(self, app: AppRef, wanted: Wanted) -> bool:
        self._refuse(app.project)

    async def roll_out(self, app: AppRef, move: Move, progress: Progress) -> None:
        self._refuse(app.project)

    async def sound(self, apps: Mapping[AppRef, Wanted]) -> Collection[AppRef]:
        """All of them: nothing here can mend any."""
        return list(apps)

    async def mend(
        self, app: AppRef, wanted: Wanted | None, *, repair: bool, confirm: Confirm = nothing
    ) -> bool:
        return True

    async def remove(self, app: AppRef, volumes: bool, progress: Progress) -> None:
        self._refuse(app.project)

    async def instances(self, app: AppRef) -> list[Instance]:
        return []

    async def overview(self, apps: Collection[AppRef]) -> Mapping[AppRef, list[Instance]]:
        return {app: [] for app in apps}

    def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        self._refuse(app.project)

    def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AbstractAsyncContextManager[Command]:
        self._refuse(app.project)

    async def places(self, app: AppRef, wanted: Wanted) -> Sequence[Place]:
        return ()

    def urls(self, app: AppRef, service: Service) -> list[str]:
        return []

    async def render(self, app: AppRef, wanted: Wanted) -> list[dict[str, Any]]:
        self._refuse(app.project)
