"""A deliverer over a real database and an engine in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slipway.access import SYSTEM, Access, Identity
from slipway.base.progress import Event, Progress
from slipway.build.request import Built
from slipway.compose import Build, Port, Project, Service
from slipway.delivery import AppRef, Apps, BuildOrder, Deliverer, Engine, Outcome, Stepwise, Views
from slipway.delivery.builder import ImageRef
from slipway.errors import NotFound, SlipwayError
from slipway.oci import Digest, Reference
from slipway.state import Database
from slipway.testing.memory_engine import MemoryEngine, World

APP = AppRef("demo", "shop")


class Killed(BaseException):
    """What a kill is to the code that is hit: nothing after it happens."""


@dataclass
class FakeBuilder:
    """An image's digest follows from the service's context, as if that were its source code."""

    sources: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    orders: list[str] = field(default_factory=list)
    before: Callable[[BuildOrder], Any] | None = None

    async def build(self, order: BuildOrder, owner: Identity, progress: Progress) -> Built:
        self.orders.append(order.service.name)
        if self.before is not None:
            await self.before(order)
        if order.service.name in self.failing:
            raise SlipwayError(f"{order.service.name} does not build")
        text = self.sources.get(order.service.name, "first")
        return Built(
            "b1", f"{order.project}/{order.app}-{order.service.name}", Digest.of(text.encode()), False
        )

    async def tag(self, image: ImageRef, tag: str) -> ImageRef:
        name = f"{image.reference}:{tag}"
        self.tags[name] = image.digest
        return ImageRef(name, image.digest)

    async def resolve(self, reference: Reference, owner: Identity) -> ImageRef:
        if reference.repository == "missing":
            raise NotFound(f"the image {reference} is not in this registry")
        return ImageRef(str(reference), str(Digest.of(str(reference).encode())))


@dataclass
class Bench:
    """One app's deliveries. ``reopen`` is a start of the server after a kill."""

    database: Database
    world: World = field(default_factory=World)
    builder: FakeBuilder = field(default_factory=FakeBuilder)
    events: list[Event] = field(default_factory=list)
    apps: Apps = field(init=False)
    deliverer: Deliverer = field(init=False)
    views: Views = field(init=False)
    engine: Engine = field(init=False)
    engines: dict[str, Engine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.apps = Apps(self.database)
        self.deliverer = Deliverer(self.apps, self.builder, self.engine_of)
        self.views = Views(self.apps, self.builder, self.engine_of)
        self.engine = Stepwise(MemoryEngine(self.world))

    async def engine_of(self, project: str) -> Engine:
        return self.engines.get(project, self.engine)

    async def create_project(self, name: str) -> None:
        await Access(self.database, Path(str(self.database.engine.url.database)).parent).create_project(name)

    async def reopen(self) -> None:
        self.world.hook = lambda step: None
        self.__post_init__()
        await self.apps.interrupt_pending()

    async def deliver(self, *services: Service, name: str = "shop") -> Outcome:
        volumes = tuple({mount.source for service in services for mount in service.volumes})
        model = Project(name, {service.name: service for service in services}, volumes)
        return await self.deliverer.deliver("demo", model, Path("/src"), SYSTEM, "abc", self.events.append)

    async def statuses(self) -> dict[int, str]:
        return {item.number: item.status for item in await self.apps.releases(APP)}

    async def running(self, app: AppRef = APP) -> dict[str, list[int]]:
        """Releases of the running instances of each service."""
        found: dict[str, list[int]] = {}
        for item in await self.views.instances(app):
            if item.running:
                found.setdefault(item.service, []).append(item.release)
        return found

    def recorded_now(self) -> int:
        """The release that the database says serves, as another process sees it."""
        connection = sqlite3.connect(str(self.database.engine.url.database))
        try:
            ((number,),) = connection.execute("select current_release from apps").fetchall()
        finally:
            connection.close()
        return int(number)

    def states(self, service: str) -> list[str]:
        return [event["state"] for event in self.events if event.get("service") == service]

    def kill_at(self, step: int) -> Callable[[], bool]:
        """End everything at the given step; whether it came to that."""
        seen = 0

        def hook(name: str) -> None:
            nonlocal seen
            seen += 1
            if seen >= step:
                raise Killed(name)

        self.world.hook = hook
        return lambda: seen >= step


def service(name: str, behaviour: str = "serve", **more: Any) -> Service:
    """Built from source; with a port if it serves."""
    ports = (Port(8000),) if behaviour == "serve" else ()
    return replace(Service(name, build=Build("."), command=(behaviour,), ports=ports), **more)
