"""``InstanceEngine`` over our own containers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from slipway.compose import Project, Refusal, Service
from slipway.delivery.commands import Command
from slipway.delivery.engine import AppRef, Instance, LogRecord
from slipway.delivery.hosts import hosts
from slipway.delivery.jobs import may_end
from slipway.delivery.releases import Release
from slipway.engines.embedded.limits import refusals
from slipway.engines.embedded.routing import KeptRoutes, check_listens, heard, listen, living, routes
from slipway.engines.embedded.specs import LABEL, container_spec, network_name, volume_path, volume_paths
from slipway.errors import Failed, NotFound
from slipway.network import Balancer, Networks, Route
from slipway.oci import Digest, ImageConfig, Reference
from slipway.registry import Registry
from slipway.runtime import Container, Containers
from slipway.runtime.restart import goes_on
from slipway.runtime.volumes import remove_volume
from slipway.snapshots import LayerRef, SnapshotStore

_TAIL = 20
_PROBE = 0.05
_STEADY_SECONDS = 1.0


class EmbeddedEngine:
    """See ``slipway.delivery.instance_engine.InstanceEngine`` for the contract."""

    def __init__(
        self, containers: Containers, networks: Networks, balancer: Balancer, snapshots: SnapshotStore,
        registry: Registry, volumes: Path, domain: str, port: int,
    ) -> None:  # fmt: skip
        """``volumes`` is where named volumes live; the routes are kept in a file beside it."""
        self._containers = containers
        self._networks = networks
        self._balancer = balancer
        self._snapshots = snapshots
        self._registry = registry
        self._volumes = volumes
        self._domain = domain
        self._port = port
        self._kept = KeptRoutes(volumes.parent / "routes.json")
        self._routes: dict[AppRef, tuple[Route, ...]] | None = None
        # Apps that were published since we started: of others a kill may have left the file behind the balancer.
        self._sure: set[AppRef] = set()
        self._publishing = asyncio.Lock()

    def refusals(self, model: Project) -> Sequence[Refusal]:
        return refusals(model)

    async def prepare(self, app: AppRef, release: Release) -> None:
        async with self._publishing:
            all_of_it = {name: (service, ()) for name, service in release.model.services.items()}
            known = await self._known()
            check_listens(app, routes(app, all_of_it, self._domain), known, ours=self._balancer.running())
        await self._networks.ensure(network_name(app))
        for name in release.model.volumes:
            volume_path(self._volumes, app, name).mkdir(parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as group:
            for name in release.model.services:
                group.create_task(self._image(release, name))

    async def _image(self, release: Release, service: str) -> tuple[ImageConfig, str]:
        """The image's configuration and the chain it is unpacked as."""
        image = release.images[service]
        reference = Reference.parse(image["reference"]).with_digest(Digest.parse(image["digest"]))
        resolved = await self._registry.resolve(reference)
        layers = [
            LayerRef(diff_id, blob)
            for diff_id, blob in zip(resolved.config.diff_ids, resolved.manifest.layers, strict=True)
        ]
        chain = await asyncio.to_thread(self._snapshots.ensure, layers)
        return resolved.config, str(chain or "")

    async def start(self, app: AppRef, release: Release, service: Service, replica: int) -> Instance:
        config, chain = await self._image(release, service.name)
        spec = container_spec(app, release, service, replica, config, chain, self._volumes)
        container = await self._containers.create(spec)
        try:
            await self._containers.start(container.id)
        except BaseException:
            await asyncio.shield(self._containers.remove(container.id))
            raise
        return _instance(container)

    async def ready(self, app: AppRef, instance: Instance, service: Service, timeout: float) -> Instance:
        container = self._containers.get(instance.id)
        if container.spec.health is not None:
            await self._containers.wait(
                instance.id, lambda item: item.health in ("healthy", "unhealthy") or not item.running, timeout
            )
            if container.health != "healthy" and not _is_done(service, container):
                reason = (
                    "is unhealthy" if container.running else f"ended with exit code {container.exit_code}"
                )
                if container.running and container.health == "starting":
                    reason = f"was not healthy within {timeout:g} s"
                raise await self._failed(service, container, reason)
        elif service.ports:
            await self._answers(service, container, timeout)
        else:
            await self._containers.wait(instance.id, lambda item: not item.running, _STEADY_SECONDS)
            if not container.running and not _is_done(service, container):
                raise await self._failed(service, container, f"ended with exit code {container.exit_code}")
        return _instance(container)

    async def _answers(self, service: Service, container: Container, timeout: float) -> None:
        """A published service without a health check is ready when its port accepts."""
        address = (container.address, service.ports[0].target)
        try:
            async with asyncio.timeout(timeout):
                while not await _accepts(address):
                    if not container.running:
                        raise await self._failed(
                            service, container, f"ended with exit code {container.exit_code}"
                        )
                    await asyncio.sleep(_PROBE)
        except TimeoutError as error:
            reason = f"did not listen on port {address[1]} within {timeout:g} s"
            raise await self._failed(service, container, reason) from error

    async def _failed(self, service: Service, container: Container, reason: str) -> Failed:
        lines = [line.text async for line in self._containers.logs(container.id, tail=_TAIL)]
        tail = "".join(f"\n  | {line}" for line in lines)
        return Failed(
            f"{service.name} {reason}{tail or ' (it wrote nothing)'}",
            hint="the release before stays in service",
            service=service.name,
            log=lines,
        )

    async def completed(self, app: AppRef, instance: Instance, timeout: float) -> None:
        container = self._containers.get(instance.id)
        await self._containers.wait(instance.id, lambda item: not item.running, timeout)
        if container.running or container.exit_code != 0:
            raise Failed(f"{instance.service} did not complete: exit code {container.exit_code}")

    async def instances(self, app: AppRef) -> list[Instance]:
        labels = {f"{LABEL}project": app.project, f"{LABEL}app": app.name}
        return [_instance(container) for container in self._containers.list(labels)]

    async def publish(self, app: AppRef, targets: Mapping[str, tuple[Service, Sequence[Instance]]]) -> None:
        wanted = routes(app, targets, self._domain)
        async with self._publishing:
            known = await self._known()
            running = self._balancer.running()
            if known.get(app, ()) == wanted and (app in self._sure if running else not any(known.values())):
                return
            check_listens(app, wanted, known, ours=running)
            after = {**(known if running else heard(known)), app: wanted}
            self._sure.discard(
                app
            )  # until it has served: given up half-way, the balancer does who knows what
            # Remembered only once they serve: what the balancer refuses must not spoil the next app's routes.
            await self._balancer.apply([route for found in after.values() for route in found])
            self._routes = {ref: found for ref, found in after.items() if found}
            self._sure.add(app)
            await asyncio.to_thread(self._kept.save, self._routes)

    async def _known(self) -> Mapping[AppRef, tuple[Route, ...]]:
        """The routes of all apps. After a restart of the server those that the balancer still serves."""
        if self._routes is None:
            kept = await asyncio.to_thread(self._kept.load)
            self._routes = living(
                kept, {item.id: item.address for item in self._containers.list() if item.running}
            )
        return self._routes

    async def drain(self, app: AppRef, instance: Instance, timeout: float) -> None:
        if self._balancer.running():
            await self._balancer.drain(instance.id, timeout)

    async def stop(self, app: AppRef, instance: Instance) -> None:
        try:
            await self._containers.stop(instance.id)
        except NotFound:
            return
        if self._balancer.running():
            await self._balancer.forget(instance.id)

    async def revive(self, app: AppRef, instance: Instance) -> None:
        await self._containers.start(instance.id)

    async def remove(self, app: AppRef, instance: Instance) -> None:
        await self._containers.remove(instance.id)

    async def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        async for line in self._containers.logs(instance.id, follow=follow, tail=tail):
            yield LogRecord(instance.id, instance.service, line.stream, line.time, line.text)

    def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AbstractAsyncContextManager[Command]:
        return self._containers.command(instance.id, command, terminal)

    def urls(self, app: AppRef, service: Service) -> list[str]:
        found = []
        for host, port in hosts(app, service, self._domain):
            found.append(f"http://{host}:{self._port}/")
            if port.published:
                found.append(f"tcp://{listen(port)}")
        return found

    async def remove_app(self, app: AppRef, volumes: bool) -> None:
        await self.publish(app, {})
        await self._networks.remove(network_name(app))
        if volumes:
            for path in volume_paths(self._volumes, app):
                await asyncio.to_thread(remove_volume, path)


def _instance(container: Container) -> Instance:
    labels = container.spec.labels
    return Instance(
        container.id,
        labels[f"{LABEL}service"],
        int(labels[f"{LABEL}release"]),
        int(labels[f"{LABEL}replica"]),
        labels[f"{LABEL}config"],
        goes_on(container),
        container.health,
        container.address,
        container.restarts,
        container.exit_code,
    )


def _is_done(service: Service, container: Container) -> bool:
    return not container.running and container.exit_code == 0 and may_end(service)


async def _accepts(address: tuple[str, int]) -> bool:
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection(*address)
    except OSError:  # no answer in time is one, too
        return False
    writer.close()
    return True
