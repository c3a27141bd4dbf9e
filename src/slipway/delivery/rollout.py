"""Making a plan true: new beside old, ready before published, drained before ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from slipway.base.progress import Progress
from slipway.compose import Service
from slipway.delivery.engine import AppRef, Engine, Instance
from slipway.delivery.plan import RolloutPlan, ServicePlan
from slipway.delivery.releases import Release

READY_SECONDS = 60.0
DRAIN_SECONDS = 30.0
_COMPLETE_SECONDS = 600.0


class Rollout:
    """One pass over one app. When it raises, what it started is gone again and the rest is as it was."""

    def __init__(
        self, engine: Engine, app: AppRef, release: Release, plan: RolloutPlan, progress: Progress
    ) -> None:
        self._engine = engine
        self._app = app
        self._release = release
        self._plan = plan
        self._progress = progress
        self._fresh: dict[str, list[Instance]] = {}
        self._stopped: list[Instance] = []

    async def run(self) -> None:
        try:
            await self._engine.prepare(self._app, self._release)
            for item in self._plan.services:
                await self._bring_up(item)
            # The point of no return: the new ones take over.
            await self._engine.publish(self._app, self._targets(fresh=True))
        except BaseException:
            await asyncio.shield(self._undo())
            raise
        await self._end_old()

    async def _bring_up(self, item: ServicePlan) -> None:
        if item.unchanged:
            self._say(item.service.name, "unchanged")
            return
        await self._wait_for_jobs(item.service)
        if not item.service.start_first and item.end:
            await self._make_way(item)
        async with asyncio.TaskGroup() as group:
            for replica in item.start:
                group.create_task(self._start(item.service, replica))

    async def _start(self, service: Service, replica: int) -> None:
        began = time.monotonic()
        self._say(service.name, "starting")
        instance = await self._engine.start(self._app, self._release, service, replica)
        self._fresh.setdefault(service.name, []).append(instance)
        timeout = float(service.x_slipway.get("deploy_timeout", READY_SECONDS))
        ready = await self._engine.ready(self._app, instance, service, timeout)
        self._fresh[service.name] = [
            ready if item.id == ready.id else item for item in self._fresh[service.name]
        ]
        state = "healthy" if ready.health else "running"
        self._say(service.name, state, instance.id, round(time.monotonic() - began, 2))

    async def _wait_for_jobs(self, service: Service) -> None:
        for name, depends in service.depends_on.items():
            if depends.condition == "service_completed_successfully":
                kept = next(item.keep for item in self._plan.services if item.service.name == name)
                for instance in (*kept, *self._fresh.get(name, ())):
                    await self._engine.completed(self._app, instance, _COMPLETE_SECONDS)

    async def _make_way(self, item: ServicePlan) -> None:
        """The old ones end first: two must not write the same volume."""
        await self._engine.publish(self._app, self._targets(without=item.service.name))
        for instance in item.end:
            if instance.running:
                self._say(item.service.name, "stopping", instance.id)
                await self._engine.drain(self._app, instance, DRAIN_SECONDS)
                await self._engine.stop(self._app, instance)
                self._stopped.append(instance)

    def _targets(
        self, *, fresh: bool = False, without: str = ""
    ) -> Mapping[str, tuple[Service, list[Instance]]]:
        """Who answers for each service: the old ones until everything is ready, then the kept and the new."""
        found = {}
        for item in self._plan.services:
            old = [instance for instance in (*item.keep, *item.end) if instance.running]
            new = [*item.keep, *self._fresh.get(item.service.name, ())]
            if item.service.name != without:
                found[item.service.name] = (item.service, new if fresh else old)
        return found

    async def _end_old(self) -> None:
        """The old ones finish what they have and end."""
        for name in self._fresh:
            self._say(name, "routed")
        old = [instance for item in self._plan.services for instance in item.end]
        async with asyncio.TaskGroup() as group:
            for instance in (*old, *self._plan.orphans):
                group.create_task(self._end(instance))

    async def _end(self, instance: Instance) -> None:
        if instance.running:
            self._say(instance.service, "draining", instance.id)
            await self._engine.drain(self._app, instance, DRAIN_SECONDS)
            await self._engine.stop(self._app, instance)
        await self._engine.remove(self._app, instance)
        self._say(instance.service, "stopped", instance.id)

    async def _undo(self) -> None:
        """New ones go, stopped ones come back, the routes are the old ones."""
        for instances in self._fresh.values():
            for instance in instances:
                await self._engine.stop(self._app, instance)
                await self._engine.remove(self._app, instance)
        for instance in self._stopped:
            await self._engine.revive(self._app, instance)
        observed = {item.id: item for item in await self._engine.instances(self._app)}
        targets = {
            name: (service, [observed.get(item.id, item) for item in instances])
            for name, (service, instances) in self._targets().items()
        }
        if any(instances for _, instances in targets.values()):
            await self._engine.publish(self._app, targets)

    def _say(self, service: str, state: str, instance: str = "", seconds: float | None = None) -> None:
        event = {"event": "service.state", "service": service, "state": state, "instance": instance}
        self._progress(event if seconds is None else {**event, "seconds": seconds})
