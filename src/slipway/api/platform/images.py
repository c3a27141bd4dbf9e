"""Images in the registry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from slipway import wire
from slipway.access import Permission
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.api.platform.streams import stream
from slipway.base.progress import Progress
from slipway.distribution import Login
from slipway.oci import Platform, Reference
from slipway.registry import Format
from slipway.registry.lists import parse_words

router = APIRouter(tags=["images"], route_class=BoundedRoute)


@router.get("/images")
async def images(parts: Parts, caller: Caller, project: str = "") -> list[wire.Image]:
    if project:
        await parts.access.require(caller, project, Permission.PULL)
    names = [project] if project else [item.name for item in await parts.access.projects(caller)]
    return [
        wire.Image(
            repository=item.repository,
            tag=item.tag,
            digest=str(item.digest),
            size=item.size,
            updated=item.updated,
        )
        for item in await parts.registry.lists.tag_records(names)
    ]


@router.get("/search")
async def search(
    parts: Parts, caller: Caller, q: str, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[wire.RepositoryFound]:
    """Repositories and projects that every word of ``q`` is found in."""
    visible = [project.name for project in await parts.access.projects(caller)]
    words = parse_words(q)
    projects = [name for name in visible if all(word in name for word in words)]
    found = [
        wire.RepositoryFound(project=name, repository="", description="", tags=0, updated=None)
        for name in projects
    ]
    for item in await parts.registry.lists.search(words, visible, limit):
        project = item.repository.partition("/")[0]
        if caller.reaches(item.repository):
            about = wire.RepositoryFound(
                project=project, repository=item.repository, description=item.description, tags=item.tags,
                updated=item.updated,
            )  # fmt: skip
            found.append(about)
    return found[:limit]


@router.get("/images/inspect")
async def inspect(parts: Parts, caller: Caller, reference: str) -> wire.ImageDetail:
    wanted = Reference.parse(reference)
    await parts.access.require(caller, wanted.repository.partition("/")[0], Permission.PULL)
    found = await parts.registry.resolve(wanted)
    layers = [layer.to_json() for layer in found.manifest.layers]
    project = wanted.repository.partition("/")[0]
    about = await parts.attestor.attested(wanted.repository, project, found.digest)
    return wire.ImageDetail(
        reference=reference,
        digest=str(found.digest),
        media_type=found.manifest.media_type,
        size=sum(item.size for item in found.manifest.references),
        platform=str(found.config.platform),
        created=found.config.created,
        tags=await parts.registry.lists.tags_of(wanted.repository, found.digest),
        config=dict(found.config.config),
        layers=layers,
        history=[entry.to_json() for entry in found.config.history],
        signed=about.signed,
        provenance=about.provenance,
        packages=about.packages,
        referrers=about.others,
    )


@router.get("/images/sbom")
async def sbom(parts: Parts, caller: Caller, reference: str) -> Response:
    wanted = Reference.parse(reference)
    await parts.access.require(caller, wanted.repository.partition("/")[0], Permission.PULL)
    found = await parts.registry.resolve(wanted)
    data = await parts.attestor.sbom(wanted.repository, found.digest)
    return Response(data, media_type="application/spdx+json")


@router.get("/images/export")
async def export(
    parts: Parts, caller: Caller, reference: str, format: Format = "oci", platform: str = ""
) -> Response:
    wanted = Reference.parse(reference)
    await parts.access.require(caller, wanted.repository.partition("/")[0], Permission.PULL)
    await parts.gate.check(
        wanted.repository, await parts.registry.get_manifest(wanted.repository, wanted.target)
    )
    chosen = Platform.parse(platform) if platform else None
    return StreamingResponse(
        await parts.transfers.export(wanted, format, chosen), media_type="application/x-tar"
    )


@router.post("/images/push")
async def push(parts: Parts, caller: Caller, request: wire.Push) -> Response:
    wanted, target = Reference.parse(request.reference), Reference.parse(request.target)
    project = wanted.repository.partition("/")[0]
    await parts.access.require(caller, project, Permission.PULL)
    stored = await parts.registry.get_manifest(wanted.repository, wanted.target)
    await parts.gate.check(wanted.repository, stored)
    login = Login(request.username, request.password) if request.username else None
    await parts.access.audit(caller, "image.push", f"{wanted} to {target}", project=project)

    async def work(progress: Progress) -> dict[str, object]:
        await parts.transfers.push(wanted, target, login, progress)
        return {"pushed": str(target)}

    return stream(work)


@router.delete("/images", status_code=204)
async def delete(parts: Parts, caller: Caller, reference: str, now: bool = False) -> None:
    """To the trash, or (``now``) for good. Developers may delete what they pushed themselves."""
    wanted = Reference.parse(reference)
    project = wanted.repository.partition("/")[0]
    own = Permission.DELETE not in await parts.access.permissions(caller, project)
    await parts.access.require(caller, project, Permission.PUSH if own and not now else Permission.DELETE)
    await parts.registry.delete_manifest(
        wanted.repository, wanted.target, caller.name, own=own, whole=True, kept=not now
    )


@router.post("/images/base")
async def base(parts: Parts, caller: Caller, request: wire.BaseImage) -> Response:
    await parts.access.require_admin(caller, "make base images")
    await parts.access.audit(caller, "image.base", request.name)

    async def work(progress: Progress) -> dict[str, object]:
        return await parts.make_base(
            request.name, request.mirror, request.include, request.variant, request.force, progress
        )

    return stream(work)
