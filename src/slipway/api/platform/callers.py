"""Who calls: root over the unix socket, or a login's token."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from slipway.access import SYSTEM, Identity
from slipway.api.platform.services import Services
from slipway.errors import Unauthenticated

PEER = "slipway.peer_uid"


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


async def identity_of(request: Request) -> Identity:
    """Raises ``Unauthenticated``."""
    peer = request.scope.get(PEER)
    if peer == 0:
        return SYSTEM
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("this needs a login", hint="`slipway login` first")
    return await services_of(request).access.check_session(token.strip())


Caller = Annotated[Identity, Depends(identity_of)]
Parts = Annotated[Services, Depends(services_of)]
