"""Making a plan true: new beside old, ready before published, recorded before the old ones end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from slipway.base.progress import Progress
from slipway.base.tasks import first_error, to_the_end
from slipway.compose import Service
from slipway.delivery.engine import AppRef, Instance
from slipway.delivery.instance_engine import InstanceEngine
from slipway.delivery.plan import RolloutPlan, ServicePlan
from slipway.delivery.releases import Release
from slipway.errors import SlipwayError

log = logging.getLogger(__name__)
READY_SECONDS = 60.0
DRAIN_SECONDS = 30.0
_COMPLETE_SECONDS = 600.0
TakenOver = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """For moves that change no record."""


class Rollout:
    """One pass over one app.

    ``before`` is the release that serves now, if any: whatever goes wrong, its instances answer as it says.
    ``taken_over`` records the change; it is called once the new instances answer and before any old one ends. Until
    then an error leaves everything as it was; after it nothing fails any more, and what could not be ended is left to
    the reconciler.
    """

    def __init__(
        self,
        engine: InstanceEngine,
        app: AppRef,
        release: Release,
        plan: RolloutPlan,
        progress: Progress,
        *,
        before: Release | None = None,
        taken_over: TakenOver = _nothing,
    ) -> None:
        self._engine = engine
        self._app = app
        self._release = release
        self._plan = plan
        self._progress = progress
        self._before = before
        self._taken_over = taken_over
        self._fresh: dict[str, list[Instance]] = {}
        self._stopped: list[Instance] = []
        self._yielding: set[str] = set()
        self._published = False
        self.done = False

    async def run(self) -> None:
        """Raises the first error, with everything as it was, or a cancellation at any time."""
        try:
            try:
                await self._engine.prepare(self._app, self._release)
                await self._bring_up_all()
                await self._publish(self._new_targets())
                await self._record()
            except BaseException:
                if not self.done:
                    await to_the_end(self._undo())
                raise
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        await self._end_old()

    async def publish_old(self) -> None:
        """Let exactly those answer that answer before the switch."""
        await self._publish(self._old_targets())

    async def _record(self) -> None:
        async def record() -> None:
            await self._taken_over()
            self.done = True

        await to_the_end(record())

    async def _bring_up_all(self) -> None:
        """Each service once those it depends on are up; what does not depend on each other side by side."""
        up = {item.service.name: asyncio.Event() for item in self._plan.services}

        async def one(item: ServicePlan) -> None:
            for name in item.service.depends_on:
                if name in up:
                    await up[name].wait()
            await self._bring_up(item)
            up[item.service.name].set()

        async with asyncio.TaskGroup() as group:
            for item in self._plan.services:
                group.create_task(one(item))

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
        fresh = self._fresh.setdefault(service.name, [])
        fresh.append(instance)
        ready = await self._engine.ready(self._app, instance, service, patience(service))
        fresh[fresh.index(instance)] = ready
        state = "healthy" if ready.health else "running"
        self._say(service.name, state, instance.id, round(time.monotonic() - began, 2))

    async def _wait_for_jobs(self, service: Service) -> None:
        plans = {item.service.name: item for item in self._plan.services}
        for name, depends in service.depends_on.items():
            if depends.condition == "service_completed_successfully" and name in plans:
                for instance in (*plans[name].keep, *self._fresh.get(name, ())):
                    await self._engine.completed(self._app, instance, _COMPLETE_SECONDS)

    async def _make_way(self, item: ServicePlan) -> None:
        """The old ones end first: two must not write the same volume."""
        self._yielding.add(item.service.name)
        await self.publish_old()
        for instance in item.end:
            if instance.running:
                self._say(item.service.name, "stopping", instance.id)
                await self._engine.drain(self._app, instance, DRAIN_SECONDS)
                self._stopped.append(instance)
                await self._engine.stop(self._app, instance)

    async def _publish(self, targets: Mapping[str, tuple[Service, Sequence[Instance]]]) -> None:
        self._published = True
        await self._engine.publish(self._app, targets)

    def _new_targets(self) -> dict[str, tuple[Service, list[Instance]]]:
        return {
            item.service.name: (item.service, [*item.keep, *self._fresh.get(item.service.name, ())])
            for item in self._plan.services
        }

    def _old_targets(self) -> dict[str, tuple[Service, list[Instance]]]:
        """Who answers before the switch: what ran, on the ports its own release names."""
        ran = [
            instance
            for instance in (*self._plan.instances, *self._plan.orphans)
            if instance.running and instance.service not in self._yielding
        ]
        found: dict[str, tuple[Service, list[Instance]]] = {}
        for service in self._before.model.services.values() if self._before else ():
            config = self._before.config_of(service) if self._before else ""
            mine = [instance for instance in ran if instance.service == service.name]
            # Leftovers of an interrupted rollout answer for nobody, unless nobody else is there.
            found[service.name] = (service, [item for item in mine if item.config == config] or mine)
        return found

    async def _end_old(self) -> None:
        """The old ones finish what they have and end."""
        for name in self._fresh:
            self._say(name, "routed")
        old = (*(item for plan in self._plan.services for item in plan.end), *self._plan.orphans)
        async with asyncio.TaskGroup() as group:
            for instance in old:
                group.create_task(self._end(instance))

    async def _end(self, instance: Instance) -> None:
        with self._logged(f"{self._app}: {instance.id} could not be ended"):
            if instance.running and instance not in self._stopped:
                self._say(instance.service, "draining", instance.id)
                await self._engine.drain(self._app, instance, DRAIN_SECONDS)
                await self._engine.stop(self._app, instance)
            await self._engine.remove(self._app, instance)
            self._say(instance.service, "stopped", instance.id)

    async def _undo(self) -> None:
        """New ones go, stopped ones come back, the routes are the old ones. One failure does not stop the rest."""
        fresh = [instance for instances in self._fresh.values() for instance in instances]
        if self._published and not self._stopped:
            with self._logged(f"{self._app}: the routes could not be put back"):
                await self.publish_old()
        for instance in fresh:
            with self._logged(f"{self._app}: {instance.id} could not be removed"):
                await self._engine.stop(self._app, instance)
                await self._engine.remove(self._app, instance)
        for instance in self._stopped:
            with self._logged(f"{self._app}: {instance.id} could not be started again"):
                await self._revive(instance)
        if self._stopped:
            self._yielding.clear()
            with self._logged(f"{self._app}: the routes could not be put back"):
                await self.publish_old()

    async def _revive(self, instance: Instance) -> None:
        await self._engine.revive(self._app, instance)
        service = self._before.model.services.get(instance.service) if self._before else None
        if service is not None:
            await self._engine.ready(self._app, instance, service, patience(service))

    @contextlib.contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        try:
            yield
        except SlipwayError as error:
            log.warning("%s: %s", what, error)

    def _say(self, service: str, state: str, instance: str = "", seconds: float | None = None) -> None:
        event = {"event": "service.state", "service": service, "state": state, "instance": instance}
        self._progress(event if seconds is None else {**event, "seconds": seconds})


def patience(service: Service) -> float:
    """How long a new instance may take to get ready, in seconds."""
    told = service.x_slipway.get("deploy_timeout")
    if told is not None:
        return float(told)
    return max(
        READY_SECONDS, (service.healthcheck.start_period if service.healthcheck else 0) + READY_SECONDS / 2
    )
