"""``Engine`` over an ``InstanceEngine``: delivery's own plan and rollout move whole releases, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from logging import getLogger
from typing import Any, Literal

from slipway.base.progress import Progress, silent
from slipway.compose import Project, Refusal, Service
from slipway.delivery.commands import Command
from slipway.delivery.engine import AppRef, Confirm, Instance, LogRecord, Move, Place, Wanted, nothing
from slipway.delivery.instance_engine import InstanceEngine
from slipway.delivery.plan import RolloutPlan, plan
from slipway.delivery.rollout import Rollout
from slipway.errors import Unsupported

log = getLogger(__name__)
Renderer = Callable[[AppRef, Wanted], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one app.

    ``publish``: everything runs, the routes are made sure of. ``repair``: ``plan`` is to be carried out. ``clear``: no
    release ever served, ``leftovers`` of one that was interrupted go.
    """

    action: Literal["publish", "repair", "clear", "nothing"]
    plan: RolloutPlan | None = None
    leftovers: tuple[Instance, ...] = ()

    def describe(self) -> str:
        if self.plan is not None:
            return "; ".join(self.plan.describe())
        return f"{self.action} {', '.join(item.id for item in self.leftovers)}".strip()


def decide(wanted: Wanted | None, observed: Sequence[Instance]) -> Decision:
    """Pure. Restarts of instances that end are the runtime's, by their restart policy; it tells them as running."""
    if wanted is None:
        return Decision("clear", leftovers=tuple(observed)) if observed else Decision("nothing")
    todo = plan(wanted.release, wanted.scale, observed)
    return Decision("publish" if todo.unchanged else "repair", todo)


class Stepwise:
    """See ``slipway.delivery.engine.Engine`` for the contract."""

    def __init__(self, instances: InstanceEngine, renderer: Renderer | None = None) -> None:
        """``renderer``: what the apps' manifests would be if they ran elsewhere."""
        self._engine = instances
        self._renderer = renderer

    def refusals(self, model: Project) -> Sequence[Refusal]:
        return self._engine.refusals(model)

    async def serves(self, app: AppRef, wanted: Wanted) -> bool:
        return plan(wanted.release, wanted.scale, await self._engine.instances(app)).unchanged

    async def roll_out(self, app: AppRef, move: Move, progress: Progress) -> None:
        for refusal in self.refusals(move.wanted.release.model):
            raise refusal.error()
        if move.to:
            raise Unsupported(f"{app} runs on one machine and cannot be moved to {move.to}")
        await move.confirm()
        observed = await self._engine.instances(app)
        todo = plan(move.wanted.release, move.wanted.scale, observed, renew=move.renew)
        await self._rollout(app, move, todo, progress).run()

    def _rollout(self, app: AppRef, move: Move, todo: RolloutPlan, progress: Progress) -> Rollout:
        before = move.before.release if move.before is not None else None
        return Rollout(
            self._engine, app, move.wanted.release, todo, progress, before=before, taken_over=move.taken_over
        )

    async def sound(self, apps: Mapping[AppRef, Wanted]) -> Collection[AppRef]:
        """Each is looked at by itself: containers of this machine are found without a question to anybody."""
        return ()

    async def mend(
        self, app: AppRef, wanted: Wanted | None, *, repair: bool, confirm: Confirm = nothing
    ) -> bool:
        decision = decide(wanted, await self._engine.instances(app))
        if decision.action == "publish" and decision.plan is not None:
            await self._engine.publish(app, targets(decision.plan))
        if decision.action in ("publish", "nothing"):
            return True
        if wanted is not None and decision.plan is not None:
            rollout = self._rollout(app, Move(wanted, wanted), decision.plan, silent)
            await rollout.publish_old()  # what ended gets no requests while we wait or repair
            if repair:
                await confirm()
                log.info("%s: %s", app, decision.describe())
                await rollout.run()
        elif repair:
            await confirm()
            log.info("%s: %s", app, decision.describe())
            await self._engine.publish(app, {})
            for instance in decision.leftovers:
                await self._end(app, instance)
        return False

    async def _end(self, app: AppRef, instance: Instance) -> None:
        await self._engine.stop(app, instance)
        await self._engine.remove(app, instance)

    async def remove(self, app: AppRef, volumes: bool, progress: Progress) -> None:
        await self._engine.publish(app, {})
        for instance in await self._engine.instances(app):
            await self._end(app, instance)
            about = {"service": instance.service, "state": "stopped", "instance": instance.id}
            progress({"event": "service.state", **about})
        await self._engine.remove_app(app, volumes)

    async def instances(self, app: AppRef) -> list[Instance]:
        return await self._engine.instances(app)

    async def places(self, app: AppRef, wanted: Wanted) -> Sequence[Place]:
        return ()

    async def overview(self, apps: Collection[AppRef]) -> Mapping[AppRef, list[Instance]]:
        return {app: await self._engine.instances(app) for app in apps}

    def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        return self._engine.logs(app, instance, follow, tail)

    def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AbstractAsyncContextManager[Command]:
        return self._engine.run(app, instance, command, takes_input=takes_input, terminal=terminal)

    def urls(self, app: AppRef, service: Service) -> list[str]:
        return self._engine.urls(app, service)

    async def render(self, app: AppRef, wanted: Wanted) -> list[dict[str, Any]]:
        if self._renderer is None:
            raise Unsupported("apps that run as containers of this machine have no manifests")
        return self._renderer(app, wanted)


def targets(whole: RolloutPlan) -> dict[str, tuple[Service, Sequence[Instance]]]:
    return {item.service.name: (item.service, item.keep) for item in whole.services}
