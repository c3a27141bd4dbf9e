"""What a project's images may be and how long they stay; its trash; the record of what was done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from slipway import wire
from slipway.access import AuditFilter, Identity, Permission
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.oci import Reference
from slipway.registry.policy import RegistryPolicy
from slipway.registry.upstream import SECTION, Upstream

router = APIRouter(tags=["policies"], route_class=BoundedRoute)


async def _policy(parts: Parts, name: str) -> wire.RegistryPolicy:
    found = RegistryPolicy.parse(await parts.access.policy(name, "registry"))
    project = await parts.access.project(name)
    return wire.RegistryPolicy.model_validate({**found.to_json(), "used": project.used})


@router.get("/projects/{name}/registry-policy")
async def registry_policy(parts: Parts, caller: Caller, name: str) -> wire.RegistryPolicy:
    await parts.access.require(caller, name, Permission.VIEW)
    return await _policy(parts, name)


@router.put("/projects/{name}/registry-policy")
async def set_registry_policy(
    parts: Parts, caller: Caller, name: str, request: wire.RegistryPolicy
) -> wire.RegistryPolicy:
    await parts.access.require(caller, name, Permission.MANAGE)
    policy = RegistryPolicy.parse(request.model_dump(exclude={"used"}))
    if policy.quota != RegistryPolicy.parse(await parts.access.policy(name, "registry")).quota:
        await parts.access.require_admin(caller, "change a project's quota")
    await parts.access.set_policy(name, "registry", policy.to_json())
    await parts.access.audit(caller, "project.registry-policy", name, project=name, detail=policy.to_json())
    return await _policy(parts, name)


@router.get("/projects/{name}/upstream")
async def upstream(parts: Parts, caller: Caller, name: str) -> wire.Upstream:
    """The registry that the project stands for; without its password."""
    await parts.access.require(caller, name, Permission.VIEW)
    return wire.Upstream.model_validate(await parts.access.policy(name, SECTION) or {"url": ""})


@router.put("/projects/{name}/upstream")
async def set_upstream(parts: Parts, caller: Caller, name: str, request: wire.NewUpstream) -> wire.Upstream:
    """An empty ``url`` ends it; what was fetched stays."""
    await parts.access.require_admin(caller, "let a project stand for another registry")
    value: dict[str, Any] = {}
    if request.url:
        given = request.model_dump(exclude={"password"})
        value = Upstream.parse({**given, "secret": parts.vault.seal(request.password)}).to_json()
    await parts.access.set_policy(name, SECTION, value)
    await parts.access.audit(caller, "project.upstream", name, project=name, detail={"url": request.url})
    return wire.Upstream.model_validate(value or {"url": ""})


@router.get("/projects/{name}/retention")
async def retention(parts: Parts, caller: Caller, name: str) -> list[wire.Verdict]:
    """What the rules would do now."""
    await parts.access.require(caller, name, Permission.VIEW)
    return [wire.Verdict.of(item) for item in await parts.retention.judge(name)]


@router.post("/projects/{name}/retention")
async def apply_retention(parts: Parts, caller: Caller, name: str) -> list[wire.Verdict]:
    """Throw away what no rule keeps, now."""
    await parts.access.require(caller, name, Permission.MANAGE)
    await parts.access.audit(caller, "project.retention", name, project=name)
    return [wire.Verdict.of(item) for item in await parts.retention.apply(name)]


@router.get("/projects/{name}/trash")
async def trash(parts: Parts, caller: Caller, name: str) -> list[wire.Thrown]:
    await parts.access.require(caller, name, Permission.PULL)
    return [wire.Thrown.model_validate(item) for item in await parts.trash.list(name)]


@router.post("/images/restore", status_code=204)
async def restore(parts: Parts, caller: Caller, reference: str) -> None:
    wanted = Reference.parse(reference)
    await parts.access.require(caller, wanted.repository.partition("/")[0], Permission.DELETE)
    await parts.trash.restore(wanted.repository, wanted.target, caller.name)


async def _audited(parts: Parts, caller: Identity, project: str) -> None:
    if project:
        await parts.access.require(caller, project, Permission.MANAGE)
    else:
        await parts.access.require_admin(caller, "read the whole audit")


Filter = Annotated[wire.AuditFilter, Query()]


@router.get("/audit")
async def audit(parts: Parts, caller: Caller, wanted: Filter) -> list[wire.AuditEvent]:
    """Newest first, at most 1,000; ``before`` is the id to go on from."""
    await _audited(parts, caller, wanted.project)
    found = await parts.access.audit_log.events(
        AuditFilter(**wanted.model_dump(exclude={"limit"})), wanted.limit
    )
    return [wire.AuditEvent.model_validate(item) for item in found]


@router.get("/audit/export")
async def audit_export(parts: Parts, caller: Caller, wanted: Filter) -> Response:
    """All of it, oldest first, one JSON document a line."""
    await _audited(parts, caller, wanted.project)
    chosen = AuditFilter(**wanted.model_dump(exclude={"limit"}))

    async def lines() -> AsyncIterator[bytes]:
        async for event in parts.access.audit_log.all(chosen):
            yield wire.AuditEvent.model_validate(event).model_dump_json().encode() + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")
