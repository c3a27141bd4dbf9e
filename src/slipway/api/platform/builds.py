"""Builds: start, list, look, follow, cancel."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack

from fastapi import APIRouter, Request
from starlette.responses import Response

from slipway import wire
from slipway.access import Permission
from slipway.api.platform.callers import Caller, Parts
from slipway.api.platform.services import Services
from slipway.api.platform.sources import opened, receive
from slipway.api.platform.streams import lines, stream
from slipway.base.progress import Progress
from slipway.build.jobs import JobRequest
from slipway.build.request import SolveRequest
from slipway.build.solve import describe
from slipway.errors import Invalid
from slipway.oci import Reference
from slipway.state.tables import Build

MAX_SECRET = 500 * 1024
_LATEST = 253402300799  # the end of the year 9999
router = APIRouter(tags=["builds"])


@router.post("/uploads", status_code=201)
async def upload(parts: Parts, caller: Caller, request: Request) -> dict[str, str]:
    return {"id": await receive(parts, caller, request.stream())}


@router.post("/projects/{project}/builds")
async def build(parts: Parts, caller: Caller, project: str, request: wire.BuildRequest) -> Response:
    await parts.access.require(caller, project, Permission.BUILD)
    repository = Reference(f"{project}/{request.name}").repository
    secrets = _secrets(request.secrets)
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
            solve = SolveRequest(
                "", directory, request.dockerfile, request.inline, request.target, request.args, request.labels,
                no_cache=request.no_cache, secrets=secrets, contexts=contexts, from_git=bool(request.source.git),
                uncached=frozenset(name.lower() for name in request.no_cache_filter), epoch=_epoch(request.args),
            )  # fmt: skip
            if request.check:
                return await _check(parts, solve, progress)
            job = JobRequest(project, "", request.name, caller.name, repository, request.tags, solve)
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


def _epoch(args: dict[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH, as reproducible-builds.org has it: whole seconds."""
    text = args.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text[:12]) > _LATEST:
        raise Invalid(
            f"SOURCE_DATE_EPOCH={text[:40]} is no time",
            hint="whole seconds since 1970, e.g. git log -1 --format=%ct",
        )
    return int(text)


def _secrets(given: dict[str, str]) -> dict[str, bytes]:
    found = {}
    for name, text in given.items():
        try:
            found[name] = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise Invalid(f"the secret {name!r} is not base64") from error
        if len(found[name]) > MAX_SECRET:
            raise Invalid(f"the secret {name!r} is larger than {MAX_SECRET} bytes")
    return found


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
