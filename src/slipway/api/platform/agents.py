"""What callers' SSH agents say to the steps of their builds."""

from __future__ import annotations

import base64

from fastapi import APIRouter

from slipway import wire
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.errors import Invalid

router = APIRouter(tags=["builds"], route_class=BoundedRoute)


@router.post("/agents/{session}/{number}", status_code=204)
async def answer(parts: Parts, caller: Caller, session: str, number: int, request: wire.AgentAnswer) -> None:
    """The answer to an event ``ssh.ask`` of a build of the caller's."""
    try:
        message = base64.b64decode(request.message, validate=True)
    except ValueError as error:
        raise Invalid("the answer is not base64") from error
    parts.agents.answer(caller.name, session, number, message)
