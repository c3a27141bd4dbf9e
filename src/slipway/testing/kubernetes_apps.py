"""A deliverer over a real database and a real cluster, with images that are on its nodes already."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slipway.access import SYSTEM, Access, Identity
from slipway.base.ids import new_id
from slipway.base.progress import Event, Progress
from slipway.build.request import Built
from slipway.compose import DependsOn, FileMount, HealthTest, Port, Project, Service, VolumeMount
from slipway.delivery import AppRef, Apps, BuildOrder, Deliverer, Engine, Outcome, Release, Views, Wanted
from slipway.delivery.builder import ImageRef
from slipway.engines.kubernetes import KubernetesEngine, Limits, Setting, manifests, namespace_manifest
from slipway.engines.kubernetes.objects import Object
from slipway.errors import Unsupported
from slipway.kubernetes import ClusterClient, read_kubeconfig
from slipway.oci import Reference
from slipway.state import Database
from slipway.testing.kubernetes.cluster import Cluster
from slipway.testing.kubernetes.visitor import Visitor

PORT = 8000
_AT_ONCE = 16


class NoBuilder:
    """Takes images by the names they have on the nodes."""

    async def build(self, order: BuildOrder, owner: Identity, progress: Progress) -> Built:
        raise Unsupported("nothing is built here")

    async def tag(self, image: ImageRef, tag: str) -> ImageRef:
        return image

    async def resolve(self, reference: Reference, owner: Identity) -> ImageRef:
        return ImageRef(str(reference), "")


@dataclass
class Bench:
    """One project of its own; ``reopen`` is a start of the server after a kill."""

    cluster: Cluster
    client: ClusterClient
    database: Database
    image: str
    project: str
    limits: Limits = field(default_factory=lambda: Limits(stuck=6.0, job=60.0))
    events: list[Event] = field(default_factory=list)
    lease_seconds: float = 3.0
    opened: list[KubernetesEngine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.visitor = Visitor(self.cluster, self.image, f"visits-{self.project}")
        self.reopen()

    def reopen(self) -> None:
        self.setting = Setting(domain="apps.test")
        self.engine = KubernetesEngine(
            self.client, self.setting, lease_seconds=self.lease_seconds, away_seconds=120, waits=self.limits
        )
        self.opened.append(self.engine)
        self.apps = Apps(self.database)
        builder = NoBuilder()
        self.deliverer = Deliverer(self.apps, builder, self.engine_of)
        self.views = Views(self.apps, builder, self.engine_of)

    async def engine_of(self, project: str) -> Engine:
        return self.engine

    @property
    def app(self) -> AppRef:
        return AppRef(self.project, "shop")

    @property
    def namespace(self) -> str:
        return f"slipway-{self.project}"

    async def deliver(self, *services: Service, name: str = "shop", **more: Any) -> Outcome:
        volumes = tuple({item.source for service in services for item in service.volumes if item.source})
        model = Project(name, {service.name: service for service in services}, volumes, **more)
        return await self.deliverer.deliver(
            self.project, model, Path("/src"), SYSTEM, "abc", self.events.append
        )

    def wanted(self, release: Release) -> Wanted:
        return Wanted(release)

    def web(self, text: str = "one", name: str = "web", **more: Any) -> Service:
        """Answers with ``text`` and stops in an orderly way."""
        script = (
            f"mkdir -p /tmp/www; echo {text} > /tmp/www/index.html; trap 'sleep 1; exit 0' TERM; "
            f"httpd -f -p {PORT} -h /tmp/www & wait"
        )
        return replace(self.idle(script, name), ports=(Port(PORT),), **more)

    def idle(self, script: str = "exec sleep 100000", name: str = "worker", **more: Any) -> Service:
        return replace(Service(name, self.image, command=("sh", "-c", script), stop_grace_period=2), **more)

    def job(self, script: str = "true", name: str = "migrate", **more: Any) -> Service:
        return replace(self.idle(script, name), x_slipway={"job": True}, **more)

    async def kubectl(self, *words: str) -> str:
        return await asyncio.to_thread(self.cluster.kubectl, *words)

    async def objects(self, *kinds: str) -> set[str]:
        """``kind/name`` of the app's objects; Pods and what others make of them are not among them."""
        wanted = kinds or (
            "deployment", "statefulset", "job", "service", "configmap", "secret", "ingress", "networkpolicy", "pvc",
        )  # fmt: skip
        words = (
            "get",
            ",".join(wanted),
            "-n",
            self.namespace,
            "-l",
            f"slipway/app={self.app.name}",
            "-o",
            "name",
        )
        return {re.sub(r"\.[a-z.0-9]*/", "/", line, count=1) for line in (await self.kubectl(*words)).split()}

    async def fetch(self, name: str, port: int = PORT) -> str:
        """What a service says."""
        words = ("get", "service", name, "-n", self.namespace, "-o", "jsonpath={.spec.clusterIP}")
        address = await self.kubectl(*words)
        return await asyncio.to_thread(
            self.visitor.shell, f"busybox timeout 5 busybox wget -qO- http://{address}:{port}/"
        )

    async def rest(self, count: int) -> dict[AppRef, Wanted]:
        """So many apps of three services without a copy, which the database and the cluster have as they should be.

        What is looked at is the same as of others, and hundreds of them fit a small machine.
        """
        found: dict[AppRef, Wanted] = {}
        for number in range(count):
            model = _resting(self.image, number)
            ref, scale = AppRef(self.project, model.name), dict.fromkeys(model.services, 0)
            images = {name: {"reference": self.image, "digest": ""} for name in model.services}
            await self.apps.ensure(ref)
            release = await self.apps.record(ref, 1, model, images, "ada", "")
            await self.apps.activate(ref, release.number)
            await self.apps.set_scale(ref, scale)
            found[ref] = Wanted(release, scale)
        places = asyncio.Semaphore(_AT_ONCE)

        async def apply(obj: Object) -> None:
            async with places:
                await self.client.apply(obj)

        await apply(namespace_manifest(self.project, self.namespace))
        objects = [item for ref, one in found.items() for item in manifests(ref, one, self.setting)]
        await asyncio.gather(*map(apply, objects))
        return found

    def states(self, service: str) -> list[str]:
        return [event["state"] for event in self.events if event.get("service") == service]


def whole(bench: Bench, text: str) -> tuple[Service, ...]:
    """An app of all kinds, which answers with ``text``."""
    store = bench.web(text, "db", volumes=(VolumeMount("/data", "volume", "data"),))
    migrate = bench.job(f"echo {text}", depends_on={"db": DependsOn("service_healthy")})
    needs = {"migrate": DependsOn("service_completed_successfully")}
    return store, migrate, bench.web(text, depends_on=needs, configs=(FileMount("site", "/etc/site"),))


async def deliver_whole(directory: Path, kubeconfig: Path, image: str, project: str, text: str) -> None:
    """One delivery by a process of its own, so that it can be killed."""
    client = ClusterClient(read_kubeconfig(await asyncio.to_thread(kubeconfig.read_text)))
    bench = Bench(Cluster(kubeconfig), client, Database.sqlite(directory / "state.db"), image, project)
    print("begins", flush=True)
    await bench.deliver(*whole(bench, text), configs={"site": text})
    print("is through", flush=True)
    await client.aclose()


def _resting(image: str, number: int) -> Project:
    page = Service(f"web{number}", image, ports=(Port(8000),))
    store = Service(f"db{number}", image, expose=(5432,), volumes=(VolumeMount("/data", "volume", "data"),))
    services = {item.name: item for item in (page, store, Service(f"worker{number}", image))}
    return Project(f"app{number}", services, ("data",))


def healthy(test: str, interval: float = 1) -> HealthTest:
    return HealthTest(("CMD-SHELL", test), interval=interval, start_interval=1)


@asynccontextmanager
async def opened_bench(cluster: Cluster, image: str, directory: Path) -> AsyncIterator[Bench]:
    database = Database.sqlite(directory / "state.db")
    await database.migrate()
    project = f"t{new_id()[:8].lower()}"
    await Access(database, directory / "keys").create_project(project)
    client = ClusterClient(read_kubeconfig(await asyncio.to_thread(cluster.kubeconfig.read_text)))
    bench = Bench(cluster, client, database, image, project)
    try:
        yield bench
    finally:
        for engine in bench.opened:
            await engine.aclose()
        await client.aclose()
        await database.dispose()
        await asyncio.to_thread(bench.visitor.leave)
        for name in (bench.namespace, f"slipway--{project}-second"):
            words = ("delete", "namespace", name, "--wait=false", "--ignore-not-found")
            await asyncio.to_thread(cluster.kubectl, *words)


if __name__ == "__main__":
    asyncio.run(deliver_whole(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:6]))
