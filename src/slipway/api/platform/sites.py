"""Other sites: who gets and gives what, and how far it is."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from starlette.responses import PlainTextResponse

from slipway import wire
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.errors import SlipwayError
from slipway.registry.replication import SiteRecord

router = APIRouter(tags=["sites"], route_class=BoundedRoute)


async def _shown(parts: Parts, site: SiteRecord) -> wire.Site:
    progress = await parts.replicator.progress(site)
    error, last = str(site.state.get("error") or ""), site.state.get("last_success")
    return wire.Site(
        name=site.name,
        url=site.url,
        kind=site.kind or "not asked yet",
        direction=site.direction,
        username=site.username,
        options=wire.SiteOptions.model_validate(dict(site.options)),
        state="failing" if error else ("behind" if progress.pending else "in step" if last else "new"),
        pending=progress.pending,
        lag=round(progress.lag, 1),
        last_success=datetime.fromisoformat(last) if last else None,
        error=error,
        images=int(site.state.get("images") or 0),
        bytes=int(site.state.get("bytes") or 0),
        created=site.created,
    )


@router.get("/sites")
async def sites(parts: Parts, caller: Caller) -> list[wire.Site]:
    await parts.access.require_admin(caller, "see the sites")
    return [await _shown(parts, site) for site in await parts.replicator.sites.all()]


@router.get("/sites/{name}")
async def site(parts: Parts, caller: Caller, name: str) -> wire.Site:
    await parts.access.require_admin(caller, "see the sites")
    return await _shown(parts, await parts.replicator.sites.get(name))


@router.post("/sites", status_code=201)
async def add_site(parts: Parts, caller: Caller, request: wire.NewSite) -> wire.Site:
    await parts.access.require_admin(caller, "add sites")
    made = await parts.replicator.sites.add(
        request.name, request.url, request.direction, request.username, request.password,
        request.options.model_dump(),
    )  # fmt: skip
    detail = {"url": made.url, "direction": made.direction}
    await parts.access.audit(caller, "site.add", request.name, detail=detail)
    return await _shown(parts, made)


@router.post("/sites/{name}/sync")
async def sync_site(parts: Parts, caller: Caller, name: str) -> wire.Site:
    """Do now what there is to do; what keeps it from being done is in the answer."""
    await parts.access.require_admin(caller, "replicate")
    await parts.replicator.sites.get(name)
    try:
        await parts.replicator.sync(name, patient=False)
    except SlipwayError:
        parts.replicator.wake(name)
    return await _shown(parts, await parts.replicator.sites.get(name))


@router.delete("/sites/{name}", status_code=204)
async def remove_site(parts: Parts, caller: Caller, name: str) -> None:
    await parts.access.require_admin(caller, "remove sites")
    await parts.replicator.sites.remove(name)
    await parts.access.audit(caller, "site.remove", name)


@router.get("/site-conflicts")
async def conflicts(parts: Parts, caller: Caller) -> list[wire.SiteConflict]:
    await parts.access.require_admin(caller, "see the sites")
    return [wire.SiteConflict.model_validate(item) for item in await parts.replicator.sites.conflicts()]


@router.get("/metrics")
async def metrics(parts: Parts, caller: Caller) -> PlainTextResponse:
    """In the text format of Prometheus."""
    await parts.access.require_admin(caller, "read the metrics")
    lines = []
    kinds = (
        ("lag_seconds", "for how long the oldest change waits"),
        ("pending_changes", "changes that wait"),
    )
    found = [
        (site.name, await parts.replicator.progress(site)) for site in await parts.replicator.sites.all()
    ]
    for name, text in kinds:
        lines += [f"# HELP slipway_site_{name} {text}", f"# TYPE slipway_site_{name} gauge"]
        for site_name, progress in found:
            value = progress.lag if name == "lag_seconds" else progress.pending
            lines.append(f'slipway_site_{name}{{site="{site_name}"}} {value:g}')
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")
