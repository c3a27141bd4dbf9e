"""How the platform is."""

from __future__ import annotations

from fastapi import APIRouter

from slipway import wire
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts

router = APIRouter(tags=["status"], route_class=BoundedRoute)


@router.get("/status")
async def status(parts: Parts, _caller: Caller) -> wire.Status:
    return wire.Status.model_validate(await parts.status())


@router.get("/health")
async def health() -> dict[str, bool]:
    """For load balancers and `slipway up`: answers without a login as soon as requests are served."""
    return {"ok": True}
