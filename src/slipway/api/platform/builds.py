"""Builds: start, list, look, follow, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from slipway import wire
from slipway.access import Permission
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.build_requests import (
    PRIORITIES,
    logins_of,
    platforms_of,
    solve_request,
    with_epoch_of_context,
)
from slipway.api.platform.callers import Caller, Parts
from slipway.api.platform.services import Services
from slipway.api.platform.sources import opened, receive
from slipway.api.platform.streams import lines, stream
from slipway.base.progress import Progress
from slipway.base.tasks import first_error
from slipway.build.base_images import Images
from slipway.build.builders import BuilderRecord
from slipway.build.layout_images import WithLayouts, layout_reference
from slipway.build.making import JobRequest
from slipway.build.own_image import PLATFORM
from slipway.build.plan.steering import MULTI_PLATFORM, is_set
from slipway.build.pods.image import WORKER
from slipway.build.remote import Credentials
from slipway.build.request import SolveRequest
from slipway.build.solve import describe
from slipway.content import holding
from slipway.distribution import OciLayout
from slipway.oci import Descriptor, Platform, Reference
from slipway.state.tables import Build

router = APIRouter(tags=["builds"], route_class=BoundedRoute)
_LEASE = timedelta(hours=12)


@router.post("/uploads", status_code=201)
async def upload(parts: Parts, caller: Caller, request: Request) -> dict[str, str]:
    return {"id": await receive(parts, caller, request.stream())}


@router.post("/projects/{project}/builds")
async def build(parts: Parts, caller: Caller, project: str, request: wire.BuildRequest) -> Response:
    await parts.access.require(caller, project, Permission.BUILD)
    repository = Reference(f"{project}/{request.name}").repository
    platforms = platforms_of(request)
    asked = replace(solve_request(caller, request), platform=platforms[0])
    builder = await parts.builders.require(request.builder, project) if request.builder else None
    as_index = is_set(request.args, MULTI_PLATFORM)
    if request.priority == "high":
        await parts.access.require(caller, project, Permission.MANAGE)
    await parts.access.audit(caller, "build", repository, project=project)

    async def work(progress: Progress) -> dict[str, object]:
        async with AsyncExitStack() as stack:
            credentials = Credentials(asked.secrets)
            source = await stack.enter_async_context(opened(parts, caller, request.source, credentials))
            contexts: dict[str, Path | Reference] = {}
            layouts: dict[str, OciLayout] = {}
            for name, context in request.contexts.items():
                if context.image:
                    contexts[name] = Reference.parse(context.image)
                    continue
                other = await stack.enter_async_context(opened(parts, caller, context.source, credentials))
                contexts[name] = other.directory
                if context.layout is not None:
                    contexts[name] = reference = layout_reference(len(layouts), context.layout)
                    layouts[reference.repository] = stack.enter_context(OciLayout(other.directory))
            agents = stack.enter_context(parts.agents.agents(caller.name, request.ssh, progress))
            solve = replace(asked, context=source.directory, contexts=contexts, agents=agents)
            solve = with_epoch_of_context(solve, source.committed)
            if request.check:
                return await _check(parts, solve, progress)
            job = JobRequest(
                project, "", request.name, caller.name, repository, request.tags, solve,
                PRIORITIES[request.priority], builder,
            )  # fmt: skip
            images = parts.images_of(caller, request.pull, logins_of(request), project)
            if layouts:
                blobs = parts.registry.blobs
                lease = await stack.enter_async_context(holding(blobs, "layouts", ttl=_LEASE))
                images = WithLayouts(images, layouts, blobs, lease)
            if len(platforms) > 1 or as_index:
                return await _build_each(parts, job, platforms, images, progress)
            built = await parts.jobs.run(job, images, progress)
        return {"build": built.build_id, "reference": built.reference, "digest": str(built.digest)}

    return stream(work)


async def _build_each(
    parts: Services, job: JobRequest, platforms: Sequence[Platform], images: Images, progress: Progress
) -> dict[str, object]:
    """A build for each platform, all at once, each with its own worker, and an index of what they made."""
    jobs = [
        replace(job, service=f"{job.service} {item}", tags=(), solve=_for_platform(job.solve, item))
        for item in platforms
    ]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(parts.jobs.run(item, images, progress)) for item in jobs]
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
    made = [task.result() for task in tasks]
    found = []
    for built, platform in zip(made, platforms, strict=True):
        stored = await parts.registry.get_manifest(job.repository, str(built.digest))
        found.append(Descriptor(stored.media_type, stored.digest, len(stored.data), platform=platform))
    index = await parts.registry.store_index(job.repository, job.tags, found, job.owner)
    await parts.attestor.sign(job.repository, job.project, index)
    reference = f"{job.repository}:{job.tags[0]}" if job.tags else job.repository
    return {
        "build": " ".join(built.build_id for built in made), "reference": reference, "digest": str(index.digest),
        "platforms": [str(item) for item in platforms],
    }  # fmt: skip


def _for_platform(solve: SolveRequest, platform: Platform) -> SolveRequest:
    """Each platform has a cache of its own, under a tag of its own."""

    def own(reference: Reference) -> Reference:
        return reference.with_tag(f"{reference.tag or 'cache'}-{str(platform).replace('/', '-')}")

    return replace(
        solve,
        platform=platform,
        cache_from=tuple(own(item) for item in solve.cache_from),
        cache_to=tuple(replace(item, reference=own(item.reference)) for item in solve.cache_to),
    )


@router.get("/builders")
async def builders(parts: Parts, caller: Caller) -> list[wire.Builder]:
    return [wire.Builder.model_validate(asdict(item)) for item in await parts.builders.all()]


@router.post("/builders", status_code=201)
async def add_builder(parts: Parts, caller: Caller, request: wire.Builder) -> wire.Builder:
    await parts.access.require_admin(caller, "add builders")
    values = request.model_dump() | {"projects": tuple(request.projects)}
    await parts.builders.add(BuilderRecord(**values))
    await parts.access.audit(caller, "builder.add", request.name, detail={"address": request.address})
    return request


@router.post("/builders/image")
async def worker_image(parts: Parts, caller: Caller) -> Response:
    """Make the image of workers in Pods, if this version has none yet."""
    await parts.access.require_admin(caller, "make the workers' image")
    await parts.access.audit(caller, "builder.image", "slipway-worker")
    return stream(partial(parts.make_own, WORKER))


@router.post("/platform/image")
async def platform_image(parts: Parts, caller: Caller) -> Response:
    """Make the images of the platform itself and of its workers, if this version has none yet."""
    await parts.access.require_admin(caller, "make the platform's image")
    await parts.access.audit(caller, "platform.image", PLATFORM.name)

    async def work(progress: Progress) -> dict[str, object]:
        await parts.make_own(WORKER, progress)  # servers in Pods could not make its base
        return await parts.make_own(PLATFORM, progress)

    return stream(work)


@router.delete("/builders/{name}", status_code=204)
async def remove_builder(parts: Parts, caller: Caller, name: str) -> None:
    await parts.access.require_admin(caller, "remove builders")
    await parts.builders.remove(name)
    await parts.access.audit(caller, "builder.remove", name)


@router.get("/builds")
async def builds(parts: Parts, caller: Caller, project: str = "") -> list[wire.Build]:
    if project:
        await parts.access.require(caller, project, Permission.VIEW)
    names = [project] if project else [item.name for item in await parts.access.projects(caller)]
    return [_record(row, name) for row, name in await parts.jobs.records.list(names)]


@router.post("/builds/prune")
async def prune(parts: Parts, caller: Caller, request: wire.Prune) -> wire.Pruned:
    await parts.access.require_admin(caller, "prune the build cache")
    done = await parts.prune(request.days, request.size, request.dry_run)
    if not request.dry_run:
        await parts.access.audit(caller, "builds.prune", str(done["counts"]))
    return wire.Pruned.model_validate(done)


@router.get("/builds/{build_id}")
async def show(parts: Parts, caller: Caller, build_id: str) -> wire.Build:
    project = await parts.jobs.records.project_of(build_id)
    await parts.access.require(caller, project, Permission.VIEW)
    return _record(await parts.jobs.records.get(build_id), project)


@router.get("/builds/{build_id}/log")
async def log(parts: Parts, caller: Caller, build_id: str, follow: bool = False) -> Response:
    await parts.access.require(caller, await parts.jobs.records.project_of(build_id), Permission.VIEW)
    return lines(parts.jobs.log(build_id, follow))


@router.post("/builds/{build_id}/cancel", status_code=204)
async def cancel(parts: Parts, caller: Caller, build_id: str) -> None:
    project = await parts.jobs.records.project_of(build_id)
    await parts.access.require(caller, project, Permission.BUILD)
    await parts.jobs.cancel(build_id)
    await parts.access.audit(caller, "build.cancel", build_id, project=project)


async def _check(parts: Services, solve: SolveRequest, progress: Progress) -> dict[str, object]:
    """The build checks' findings, as warnings and as the result."""
    found = [describe(finding) for finding in await asyncio.to_thread(parts.jobs.check, solve)]
    for item in found:
        progress({"event": "warning", **item})
    return {"findings": found}


def _record(row: Build, project: str) -> wire.Build:
    names = (
        "id",
        "app",
        "service",
        "owner",
        "state",
        "created",
        "started",
        "finished",
        "image_digest",
        "error",
    )
    return wire.Build(project=project, limits=row.limits, **{name: getattr(row, name) for name in names})
