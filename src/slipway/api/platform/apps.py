"""Apps: deliver, show, change, remove."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from slipway import wire
from slipway.access import Permission
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.api.platform.services import Services
from slipway.api.platform.sources import Opened, opened
from slipway.api.platform.streams import failure, lines, stream
from slipway.base.progress import Progress
from slipway.base.tasks import first_error
from slipway.compose import Project, load
from slipway.compose.refusals import Refuse
from slipway.delivery import AppRef, AppState, Instance, Place, Release
from slipway.engines.kubernetes import refusals
from slipway.errors import NotFound, Unavailable
from slipway.wire.base import MOST_COUNT

router = APIRouter(tags=["apps"], route_class=BoundedRoute)


@router.post("/projects/{project}/deliver")
async def deliver(parts: Parts, caller: Caller, project: str, request: wire.Deliver) -> Response:
    await parts.access.require(caller, project, Permission.DELIVER)

    async def work(progress: Progress) -> dict[str, Any]:
        async with opened(parts, caller, request.source) as source:
            model = await _model(source, request, await parts.deliverer.refusals(project))
            outcome = await parts.deliverer.deliver(
                project,
                model,
                source.directory,
                caller,
                request.source.revision,
                progress,
                no_cache=request.no_cache,
            )
        if not outcome.unchanged:
            detail = {"release": outcome.release}
            await parts.access.audit(caller, "app.deliver", str(outcome.app), project=project, detail=detail)
        return outcome.to_json()

    return stream(work)


@router.post("/projects/{project}/render")
async def render(parts: Parts, caller: Caller, project: str, request: wire.Render) -> list[dict[str, Any]]:
    """The Kubernetes manifests of an app. Nothing is built or changed."""
    await parts.access.require(caller, project, Permission.DELIVER)
    async with opened(parts, caller, request.source) as source:
        model = await _model(source, request, refusals)
    return await parts.views.render(project, model, request.images, caller)


async def _model(source: Opened, request: wire.Deliver | wire.Render, refuse: Refuse) -> Project:
    """What the Compose files say; ``refuse`` names what the engine cannot do."""
    return await asyncio.to_thread(
        load, source.directory, request.files, variables=request.variables, name=request.app,
        profiles=request.profiles, refuse=refuse,
    )  # fmt: skip


@router.get("/apps")
async def apps(parts: Parts, caller: Caller, project: str = "") -> list[wire.App]:
    if project:
        await parts.access.require(caller, project, Permission.VIEW)
    visible = {project} if project else {item.name for item in await parts.access.projects(caller)}
    states = [state for state in await parts.apps.all() if state.ref.project in visible]
    seen = await parts.views.overview([state.ref for state in states])
    return [(await _detail(parts, state, seen.get(state.ref, []))) for state in states]


@router.get("/projects/{project}/apps/{name}")
async def show(parts: Parts, caller: Caller, project: str, name: str) -> wire.AppDetail:
    await parts.access.require(caller, project, Permission.VIEW)
    state = await parts.apps.get(AppRef(project, name))
    places = await parts.views.places(state.ref)
    instances: list[Instance] = []
    try:
        instances = await parts.views.instances(state.ref)
    except Unavailable:
        if not places:
            raise
        # The clusters' states say why nothing is seen.
    return await _detail(parts, state, instances, places)


@router.get("/projects/{project}/apps/{name}/releases")
async def releases(parts: Parts, caller: Caller, project: str, name: str) -> list[wire.Release]:
    await parts.access.require(caller, project, Permission.VIEW)
    return [
        wire.Release(
            number=item.number, status=item.status, created=item.created, created_by=item.created_by,
            source_revision=item.source_revision, digest=item.digest, images=dict(item.images), error=item.error,
        )
        for item in await parts.apps.releases(AppRef(project, name))
    ]  # fmt: skip


@router.post("/projects/{project}/apps/{name}/rollback")
async def rollback(parts: Parts, caller: Caller, project: str, name: str, request: wire.Rollback) -> Response:
    await parts.access.require(caller, project, Permission.DELIVER)
    ref = AppRef(project, name)
    await parts.apps.get(ref)
    await parts.access.audit(caller, "app.rollback", str(ref), project=project, detail={"to": request.to})

    async def work(progress: Progress) -> dict[str, Any]:
        return (await parts.deliverer.rollback(ref, request.to, caller, progress)).to_json()

    return stream(work)


@router.post("/projects/{project}/apps/{name}/scale")
async def scale(parts: Parts, caller: Caller, project: str, name: str, request: wire.Scale) -> Response:
    await parts.access.require(caller, project, Permission.DELIVER)
    ref = AppRef(project, name)
    await parts.apps.get(ref)
    await parts.access.audit(caller, "app.scale", str(ref), project=project, detail=dict(request.replicas))

    async def work(progress: Progress) -> dict[str, Any]:
        return (await parts.deliverer.scale(ref, request.replicas, progress)).to_json()

    return stream(work)


@router.post("/projects/{project}/apps/{name}/move")
async def move(parts: Parts, caller: Caller, project: str, name: str, request: wire.MoveApp) -> Response:
    await parts.access.require(caller, project, Permission.DELIVER)
    ref = AppRef(project, name)
    await parts.apps.get(ref)
    detail = {"to": request.to, "leave_data": request.leave_data}
    await parts.access.audit(caller, "app.move", str(ref), project=project, detail=detail)

    async def work(progress: Progress) -> dict[str, Any]:
        return (await parts.deliverer.move(ref, request.to, request.leave_data, progress)).to_json()

    return stream(work)


@router.post("/projects/{project}/apps/{name}/restart")
async def restart(
    parts: Parts, caller: Caller, project: str, name: str, request: dict[str, list[str]]
) -> Response:
    await parts.access.require(caller, project, Permission.DELIVER)
    ref = AppRef(project, name)
    await parts.apps.get(ref)
    await parts.access.audit(caller, "app.restart", str(ref), project=project)

    async def work(progress: Progress) -> dict[str, Any]:
        return (await parts.deliverer.restart(ref, request.get("services", []), progress)).to_json()

    return stream(work)


@router.get("/projects/{project}/apps/{name}/logs")
async def logs(
    parts: Parts, caller: Caller, project: str, name: str, service: str = "", follow: bool = False,
    tail: Annotated[int | None, Query(ge=0, le=MOST_COUNT)] = None,
) -> Response:  # fmt: skip
    await parts.access.require(caller, project, Permission.VIEW)
    ref = AppRef(project, name)
    await parts.apps.get(ref)
    chosen = [item for item in await parts.views.instances(ref) if service in ("", item.service)]
    return lines(_merged(parts, ref, chosen, follow, tail))


@router.delete("/projects/{project}/apps/{name}")
async def remove(parts: Parts, caller: Caller, project: str, name: str, volumes: bool = False) -> Response:
    await parts.access.require(caller, project, Permission.DELIVER)
    ref = AppRef(project, name)
    await parts.apps.get(ref)
    await parts.access.audit(caller, "app.remove", str(ref), project=project, detail={"volumes": volumes})

    async def work(progress: Progress) -> dict[str, Any]:
        await parts.deliverer.remove(ref, volumes, progress)
        return {"removed": str(ref)}

    return stream(work)


async def _merged(
    parts: Services, ref: AppRef, instances: list[Instance], follow: bool, tail: int | None
) -> AsyncIterator[dict[str, Any]]:
    """Lines of all instances: one after another, or, when followed, as they come."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(100)
    several = len({item.cluster for item in instances}) > 1

    async def read(instance: Instance) -> None:
        with suppress(NotFound):  # a rollout has removed it since
            async for line in parts.views.logs(ref, instance, follow, tail):
                await queue.put(
                    {
                        "event": "log", "service": line.service, "instance": _named(instance, several),
                        "stream": line.stream, "time": line.time, "text": line.text,
                    }
                )  # fmt: skip

    async def read_all() -> None:
        try:
            if follow:
                async with asyncio.TaskGroup() as group:
                    for instance in instances:
                        group.create_task(read(instance))
            else:
                for instance in instances:
                    await read(instance)
        except ExceptionGroup as errors:
            await queue.put(failure(first_error(errors)))
        except Exception as error:
            await queue.put(failure(error))
        await queue.put(None)

    task = asyncio.create_task(read_all())
    try:
        while (event := await queue.get()) is not None:
            yield event
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _named(instance: Instance, several: bool) -> str:
    """``web-1``, and on which cluster if there are ``several``."""
    place = f"@{instance.cluster}" if several else ""
    return f"{instance.service}-{instance.replica}{place}"


async def _detail(
    parts: Services, state: AppState, instances: list[Instance], places: Sequence[Place] = ()
) -> wire.AppDetail:
    release = await parts.apps.current(state)
    services = await _services(parts, state, release, instances, places) if release else []
    healthy = all(service.ready >= service.replicas for service in services)
    return wire.AppDetail(
        project=state.ref.project,
        name=state.ref.name,
        release=state.current,
        state="not delivered" if release is None else "serving" if healthy else "degraded",
        services=services,
        instances=[
            wire.Instance(
                id=item.id, service=item.service, release=item.release, replica=item.replica,
                state="running" if item.running else f"exited {item.exit_code}", health=item.health,
                address=item.address, restarts=item.restarts, cluster=item.cluster,
            )
            for item in instances
        ],
        clusters=[_cluster(place, instances) for place in places],
    )  # fmt: skip


def _cluster(place: Place, instances: list[Instance]) -> wire.AppCluster:
    services = [
        wire.ClusterService(
            name=name,
            replicas=count,
            ready=sum(
                _is_ready(item) for item in instances if (item.cluster, item.service) == (place.cluster, name)
            ),
        )
        for name, count in place.replicas.items()
    ]
    return wire.AppCluster(
        name=place.cluster, state=place.state, weight=place.weight, since=place.since, reason=place.reason,
        services=services,
    )  # fmt: skip


def _is_ready(instance: Instance) -> bool:
    return instance.running and instance.health in ("", "healthy")


async def _services(
    parts: Services, state: AppState, release: Release, instances: list[Instance], places: Sequence[Place]
) -> list[wire.Service]:
    urls = await parts.views.urls(state.ref, release)
    found = []
    for name, service in release.model.services.items():
        mine = [item for item in instances if item.service == name]
        ready = sum(_is_ready(item) for item in mine)
        wanted = state.scale.get(name, service.replicas)
        # Spread, a service is on each cluster once at least.
        spread = sum(place.replicas.get(name, 0) for place in places) or len({item.cluster for item in mine})
        image = release.images[name]
        found.append(
            wire.Service(
                name=name, image=f"{image['reference']}@{image['digest']}",
                replicas=max(wanted, spread if wanted else 0), ready=ready, urls=urls[name],
            )
        )  # fmt: skip
    return found
