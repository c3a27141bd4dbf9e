"""Builds: start, list, look, follow, cancel."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from slipway import wire
from slipway.access import Permission
from slipway.api.platform.build_requests import PRIORITIES, solve_request
from slipway.api.platform.callers import Caller, Parts
from slipway.api.platform.services import Services
from slipway.api.platform.sources import opened, receive
from slipway.api.platform.streams import lines, stream
from slipway.base.progress import Progress
from slipway.build.jobs import JobRequest
from slipway.build.request import SolveRequest
from slipway.build.solve import describe
from slipway.oci import Reference
from slipway.state.tables import Build

router = APIRouter(tags=["builds"])


@router.post("/uploads", status_code=201)
async def upload(parts: Parts, caller: Caller, request: Request) -> dict[str, str]:
    return {"id": await receive(parts, caller, request.stream())}


@router.post("/projects/{project}/builds")
async def build(parts: Parts, caller: Caller, project: str, request: wire.BuildRequest) -> Response:
    await parts.access.require(caller, project, Permission.BUILD)
    repository = Reference(f"{project}/{request.name}").repository
    asked = solve_request(caller, request)
    if request.priority == "high":
        await parts.access.require(caller, project, Permission.MANAGE)
    await parts.access.audit(caller, "build", repository, project=project)

    async def work(progress: Progress) -> dict[str, object]:
        async with AsyncExitStack() as stack:
            directory = await stack.enter_async_context(opened(parts, caller, request.source))
            contexts = {
                name: Reference.parse(context.image)
                if context.image
                else await stack.enter_async_context(opened(parts, caller, context.source))
                for name, context in request.contexts.items()
            }
            solve = replace(asked, context=directory, contexts=contexts)
            if request.check:
                return await _check(parts, solve, progress)
            job = JobRequest(
                project,
                "",
                request.name,
                caller.name,
                repository,
                request.tags,
                solve,
                PRIORITIES[request.priority],
            )
            built = await parts.jobs.run(job, parts.images_of(caller, request.pull), progress)
        return {"build": built.build_id, "reference": built.reference, "digest": str(built.digest)}

    return stream(work)


@router.get("/builds")
async def builds(parts: Parts, caller: Caller, project: str = "") -> list[wire.Build]:
    if project:
        await parts.access.require(caller, project, Permission.VIEW)
    names = [project] if project else [item.name for item in await parts.access.projects(caller)]
    return [_record(row, name) for row, name in await parts.jobs.list(names)]


@router.post("/builds/prune")
async def prune(parts: Parts, caller: Caller, request: wire.Prune) -> wire.Pruned:
    await parts.access.require_admin(caller, "prune the build cache")
    done = await parts.prune(request.days, request.size, request.dry_run)
    if not request.dry_run:
        await parts.access.audit(caller, "builds.prune", str(done["counts"]))
    return wire.Pruned.model_validate(done)


@router.get("/builds/{build_id}")
async def show(parts: Parts, caller: Caller, build_id: str) -> wire.Build:
    project = await parts.jobs.project_of(build_id)
    await parts.access.require(caller, project, Permission.VIEW)
    return _record(await parts.jobs.get(build_id), project)


@router.get("/builds/{build_id}/log")
async def log(parts: Parts, caller: Caller, build_id: str, follow: bool = False) -> Response:
    await parts.access.require(caller, await parts.jobs.project_of(build_id), Permission.VIEW)
    return lines(parts.jobs.log(build_id, follow))


@router.post("/builds/{build_id}/cancel", status_code=204)
async def cancel(parts: Parts, caller: Caller, build_id: str) -> None:
    project = await parts.jobs.project_of(build_id)
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
