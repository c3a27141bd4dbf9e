"""Advisories, and what they know of images."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from fastapi import APIRouter, Request

from slipway import wire
from slipway.access import Permission
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.errors import Invalid
from slipway.oci import Reference

router = APIRouter(tags=["findings"], route_class=BoundedRoute)
_MOST = 16 * 1024**3


@router.get("/advisories")
async def advisories(parts: Parts, caller: Caller) -> list[wire.AdvisorySource]:
    await parts.access.require_admin(caller, "see the advisories")
    found = await asyncio.to_thread(parts.advisories.index.sources)
    return [wire.AdvisorySource.model_validate(item) for item in found]


@router.put("/advisories/{source}")
async def load(parts: Parts, caller: Caller, source: str, request: Request) -> wire.AdvisoriesLoaded:
    """The body is a database in OSV's format (zip, JSON lines or JSON), in place of what the source had."""
    await parts.access.require_admin(caller, "import advisories")
    with tempfile.NamedTemporaryFile(dir=parts.uploads, prefix="advisories-") as file:
        size = 0
        async for piece in request.stream():
            size += len(piece)
            if size > _MOST:
                raise Invalid(f"the database is larger than {_MOST} bytes")
            await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(file.flush)
        counts = await parts.advisories.load(Path(file.name), source)
    await parts.access.audit(caller, "advisories.import", source, detail={"read": counts.read})
    return wire.AdvisoriesLoaded(
        source=source, read=counts.read, withdrawn=counts.withdrawn, skipped=counts.skipped, unused=counts.unused,
        reasons=list(counts.reasons),
    )  # fmt: skip


@router.delete("/advisories/{source}", status_code=204)
async def remove(parts: Parts, caller: Caller, source: str) -> None:
    await parts.access.require_admin(caller, "remove advisories")
    await parts.advisories.remove(source)
    await parts.access.audit(caller, "advisories.remove", source)


@router.get("/images/findings")
async def findings(parts: Parts, caller: Caller, reference: str) -> wire.Findings:
    wanted = Reference.parse(reference)
    await parts.access.require(caller, wanted.repository.partition("/")[0], Permission.PULL)
    image = await parts.registry.resolve(wanted)
    matches = await parts.gate.findings(wanted.repository, image.digest)
    return wire.Findings(
        reference=reference,
        digest=str(image.digest),
        findings=[
            wire.Finding(
                id=item.id, severity=item.severity.level, score=item.severity.score, package=item.package,
                version=item.version, fixed=item.fixed, summary=item.summary, aliases=list(item.aliases),
            )
            for item in matches.findings
        ],
        checked=matches.checked,
        unchecked=dict(matches.unchecked),
    )  # fmt: skip
