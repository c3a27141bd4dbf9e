"""A deliverer over several clusters, each an engine in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.access import SYSTEM, Access, Identity
from slipway.base.progress import Event, Progress, silent
from slipway.build.request import Built
from slipway.compose import DependsOn, Port, Project, Service, VolumeMount
from slipway.delivery import (
    AppRef,
    Apps,
    BuildOrder,
    Deliverer,
    Engine,
    Outcome,
    Place,
    Placement,
    Placements,
    Stepwise,
    Views,
)
from slipway.delivery.builder import ImageRef
from slipway.engines.spread import Spread
from slipway.errors import NotFound, Unavailable, Unsupported
from slipway.fleet import Health
from slipway.oci import Digest, Reference
from slipway.state import Database
from slipway.testing.memory_engine import MemoryEngine, World

APP = AppRef("demo", "shop")
DATA = (VolumeMount("/data", "volume", "data"),)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


class NamedImages:
    """An image's digest follows from its name."""

    async def build(self, order: BuildOrder, owner: Identity, progress: Progress) -> Built:
        raise Unsupported("nothing is built here")

    async def tag(self, image: ImageRef, tag: str) -> ImageRef:
        return image

    async def resolve(self, reference: Reference, owner: Identity) -> ImageRef:
        return ImageRef(str(reference), str(Digest.of(str(reference).encode())))


@dataclass
class Bench:
    """Clusters are ``worlds``; ``cut`` takes the way to one, ``fail`` lets it be so for longer than the grace."""

    database: Database
    worlds: dict[str, World] = field(default_factory=dict)
    bound: dict[str, int] = field(default_factory=dict)
    states: dict[str, Health] = field(default_factory=dict)
    engines: dict[str, Engine] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.placements = Placements(self.database)
        self.reopen()

    def reopen(self) -> None:
        """A start of the server after a kill."""
        for world in self.worlds.values():
            world.hook = lambda step: None
        self.engines = {}
        self.spread = Spread(
            self, self.placements, lambda model: MemoryEngine().refusals(model), self._urls, patience=60
        )
        self.apps = Apps(self.database)
        builder = NamedImages()
        self.deliverer = Deliverer(self.apps, builder, self.engine_of)
        self.views = Views(self.apps, builder, self.engine_of)

    @staticmethod
    def _urls(app: AppRef, service: Service) -> list[str]:
        return [f"http://{service.name}.{app.name}/"] if service.ports else []

    async def engine_of(self, project: str) -> Engine:
        return self.spread

    # Members of the spread engine

    async def engine(self, cluster: str) -> Engine:
        if cluster not in self.worlds:
            raise NotFound(f"there is no cluster {cluster!r}")
        if cluster not in self.engines:
            self.engines[cluster] = Stepwise(MemoryEngine(self.worlds[cluster]))
        return self.engines[cluster]

    async def weights(self, project: str) -> Mapping[str, int]:
        return dict(self.bound)

    async def all_weights(self) -> Mapping[str, Mapping[str, int]]:
        return {"demo": dict(self.bound)}

    def health(self, cluster: str) -> Health:
        return self.states.get(cluster, Health(True))

    # What happens to clusters

    def add(self, **weights: int) -> None:
        for name in weights:
            self.worlds.setdefault(name, World())
        self.bound |= weights

    def cut(self, name: str) -> None:
        def hook(step: str) -> None:
            raise Unavailable(f"{name} does not answer")

        self.worlds[name].hook = hook
        self.states[name] = Health(False, SINCE, reason="its API server does not answer")

    def fail(self, name: str) -> None:
        self.cut(name)
        self.states[name] = replace(self.states[name], failed=True)

    def back(self, name: str) -> None:
        self.worlds[name].hook = lambda step: None
        self.states[name] = Health(True)

    # The app

    async def deliver(self, *services: Service) -> Outcome:
        model = Project(
            "shop", {service.name: service for service in services},
            tuple({mount.source for service in services for mount in service.volumes}),
        )  # fmt: skip
        return await self.deliverer.deliver("demo", model, Path("/src"), SYSTEM, "abc", self.events.append)

    async def reconcile(self) -> None:
        """One pass, however short a time ago the last repair was."""
        self.deliverer._reconciler._patience.clear()
        await self.deliverer.reconcile()

    async def scale(self, **replicas: int) -> None:
        await self.deliverer.scale(APP, replicas, silent)

    def running(self, cluster: str) -> dict[str, list[int]]:
        """Releases of the running instances there, by service."""
        found: dict[str, list[int]] = {}
        for (app, _), item in self.worlds[cluster].instances.items():
            if app == APP and item.running:
                found.setdefault(item.service, []).append(item.release)
        return found

    def counts(self, service: str = "web") -> dict[str, int]:
        return {name: len(self.running(name).get(service, ())) for name in self.worlds}

    def ran(self, cluster: str, service: str) -> int:
        """How often one was started there."""
        return sum(step.startswith(f"start {service}-") for step in self.worlds[cluster].trace)

    async def placement(self) -> Placement:
        return await self.placements.get(APP)

    async def places(self) -> dict[str, Place]:
        return {place.cluster: place for place in await self.views.places(APP)}


def service(name: str = "web", behaviour: str = "serve", image: str = "one", **more: Any) -> Service:
    ports = (Port(8000),) if behaviour == "serve" else ()
    return replace(Service(name, image=image, command=(behaviour,), ports=ports), **more)


def with_job(image: str = "one") -> tuple[Service, Service]:
    """A page that waits for a job."""
    needs = {"migrate": DependsOn("service_completed_successfully")}
    return service("migrate", "job", image), service(image=image, replicas=4, depends_on=needs)


async def opened_bench(directory: Path) -> Bench:
    database = Database.sqlite(directory / "state.db")
    await database.migrate()
    await Access(database, directory / "keys").create_project("demo")
    return Bench(database)
