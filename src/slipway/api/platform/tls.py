"""What clients have to trust to reach this server."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from slipway import wire
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Parts
from slipway.errors import NotFound

router = APIRouter(tags=["status"], route_class=BoundedRoute)


@router.get("/tls/ca")
async def authority(parts: Parts) -> wire.Authority:
    """The certificate of the authority that is the server's own or the site's; no secret, so it needs no login."""
    if parts.authority is None:
        raise NotFound(
            "this server has no certificate authority of its own",
            hint="it speaks HTTP, or tls.certificate comes from elsewhere and tls.ca does not say from where; "
            "tls.local_ca makes one",
        )
    return wire.Authority(certificate=await asyncio.to_thread(parts.authority.read_text))
