"""An ``InstanceEngine`` that keeps everything in memory, for tests of delivery. It passes the suite of ``engines``.

What an instance does is its service's command: see ``Behaviour``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Literal

from slipway.compose import Project, Refusal, Service
from slipway.delivery.commands import Command
from slipway.delivery.engine import AppRef, Instance, LogRecord
from slipway.delivery.releases import Release
from slipway.errors import Conflict, Failed, NotFound, Unsupported

# serve: answers on its port. idle: runs without one. job: ends well at once. fail: says so and ends with exit code 3.
# deaf: runs and never gets ready.
Behaviour = Literal["serve", "idle", "job", "fail", "deaf"]
LAST_WORDS = "I cannot go on"


@dataclass(slots=True)
class World:
    """What outlives an engine, as containers outlive a server. ``trace`` is what was done, in order."""

    instances: dict[tuple[AppRef, str], Instance] = field(default_factory=dict)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    routes: dict[AppRef, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    listens: dict[AppRef, set[int]] = field(default_factory=dict)
    volumes: set[tuple[AppRef, str]] = field(default_factory=set)
    trace: list[str] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    # Called before each step with its name: tests kill, fail or look here.
    hook: Callable[[str], object] = lambda step: None

    def crash(self, identity: str, exit_code: int) -> None:
        """An instance ends by itself, and no restart policy brings it back."""
        for key, item in self.instances.items():
            if item.id == identity:
                self.instances[key] = replace(item, running=False, exit_code=exit_code, health="")


class MemoryEngine:
    """See ``slipway.delivery.instance_engine.InstanceEngine`` for the contract."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()

    def refusals(self, model: Project) -> Sequence[Refusal]:
        return [
            Refusal(("services", name, "shm_size"), "is not supported yet")
            for name, service in model.services.items()
            if service.shm_size
        ]

    async def _step(self, name: str) -> None:
        await asyncio.sleep(0)  # others may come in between, as with a real engine
        self.world.trace.append(name)
        self.world.hook(name)

    async def prepare(self, app: AppRef, release: Release) -> None:
        await self._step("prepare")
        for service in release.model.services.values():
            self._check_listens(app, service)
        self.world.volumes |= {(app, name) for name in release.model.volumes}

    def _check_listens(self, app: AppRef, service: Service) -> None:
        for port in service.ports:
            for other, taken in self.world.listens.items():
                if other != app and port.published in taken:
                    raise Conflict(f"the port {port.published} is published by {other} already")

    async def start(self, app: AppRef, release: Release, service: Service, replica: int) -> Instance:
        await self._step(f"start {service.name}-{replica}")
        if not service.command:
            raise Failed(f"{service.name} has no command")
        behaviour: Behaviour = service.command[0]  # type: ignore[assignment]
        number = next(self.world.numbers)
        instance = Instance(
            f"{service.name}.{number}",
            service.name,
            release.number,
            replica,
            release.config_of(service),
            running=True,
            address=f"10.0.0.{number}",
        )
        self.world.behaviours[instance.id] = behaviour
        self.world.instances[app, instance.id] = instance
        return instance

    async def ready(self, app: AppRef, instance: Instance, service: Service, timeout: float) -> Instance:
        await self._step(f"ready {service.name}-{instance.replica}")
        key = (app, instance.id)
        behaviour = self.world.behaviours[instance.id]
        if behaviour == "deaf":
            await asyncio.sleep(timeout)
            raise self._failed(instance, f"was not ready within {timeout:g} s")
        if behaviour == "fail":
            self.world.instances[key] = replace(self.world.instances[key], running=False, exit_code=3)
            raise self._failed(instance, "ended with exit code 3")
        if behaviour == "job":
            self.world.instances[key] = replace(self.world.instances[key], running=False, exit_code=0)
        elif service.healthcheck is not None:
            self.world.instances[key] = replace(self.world.instances[key], health="healthy")
        return self.world.instances[key]

    def _failed(self, instance: Instance, reason: str) -> Failed:
        return Failed(
            f"{instance.service} {reason}\n  | {LAST_WORDS}", service=instance.service, log=[LAST_WORDS]
        )

    async def completed(self, app: AppRef, instance: Instance, timeout: float) -> None:
        await self._step(f"completed {instance.service}")
        found = self.world.instances[app, instance.id]
        if found.running:
            await asyncio.sleep(timeout)
        if found.exit_code != 0:
            raise Failed(f"{instance.service} did not complete: exit code {found.exit_code}")

    async def instances(self, app: AppRef) -> list[Instance]:
        await asyncio.sleep(0)
        return [item for (owner, _), item in self.world.instances.items() if owner == app]

    async def publish(self, app: AppRef, targets: Mapping[str, tuple[Service, Sequence[Instance]]]) -> None:
        wanted = {
            service.name: tuple(item.id for item in found)
            for service, found in targets.values()
            if service.ports
        }
        words = [f"{name}={','.join(ids)}" for name, ids in wanted.items()]
        await self._step(" ".join(["publish", *words]))
        for service, _ in targets.values():
            self._check_listens(app, service)
        self.world.routes[app] = wanted
        self.world.listens[app] = {
            port.published for service, _ in targets.values() for port in service.ports if port.published
        }

    async def drain(self, app: AppRef, instance: Instance, timeout: float) -> None:
        await self._step(f"drain {instance.id}")

    async def stop(self, app: AppRef, instance: Instance) -> None:
        await self._step(f"stop {instance.id}")
        if found := self.world.instances.get((app, instance.id)):
            code = found.exit_code if not found.running else 143
            self.world.instances[app, instance.id] = replace(found, running=False, exit_code=code, health="")

    async def revive(self, app: AppRef, instance: Instance) -> None:
        await self._step(f"revive {instance.id}")
        if (app, instance.id) not in self.world.instances:
            raise NotFound(f"there is no instance {instance.id}")
        found = self.world.instances[app, instance.id]
        self.world.instances[app, instance.id] = replace(found, running=True, exit_code=None)

    async def remove(self, app: AppRef, instance: Instance) -> None:
        await self._step(f"remove {instance.id}")
        self.world.instances.pop((app, instance.id), None)

    async def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        if self.world.behaviours.get(instance.id) == "fail":
            yield LogRecord(instance.id, instance.service, "stdout", "2024-01-01T00:00:00Z", LAST_WORDS)

    def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AbstractAsyncContextManager[Command]:
        raise Unsupported("nothing runs here")

    def urls(self, app: AppRef, service: Service) -> list[str]:
        return [f"http://{service.name}.{app.name}.{app.project}.localhost/"] if service.ports else []

    async def remove_app(self, app: AppRef, volumes: bool) -> None:
        await self._step("remove app")
        self.world.routes.pop(app, None)
        self.world.listens.pop(app, None)
        if volumes:
            self.world.volumes = {item for item in self.world.volumes if item[0] != app}
