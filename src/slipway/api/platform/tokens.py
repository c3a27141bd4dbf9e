"""Personal tokens: what a user gives to `docker login` and to scripts."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter

from slipway import wire
from slipway.access import Identity
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.api.platform.services import Services

router = APIRouter(prefix="/tokens", tags=["accounts"], route_class=BoundedRoute)


async def _owner(parts: Services, caller: Identity, user: str) -> str:
    """Whose tokens are meant: the caller's own, or for an administrator anybody's."""
    if user and user != caller.name:
        await parts.access.require_admin(caller, "see or remove other users' tokens")
    return user or caller.name


@router.get("")
async def tokens(parts: Parts, caller: Caller, user: str = "") -> list[wire.PersonalToken]:
    found = await parts.access.personal_tokens.list(await _owner(parts, caller, user))
    return [wire.PersonalToken.model_validate(item) for item in found]


@router.post("", status_code=201)
async def create_token(
    parts: Parts, caller: Caller, request: wire.NewPersonalToken
) -> wire.PersonalTokenSecret:
    lifetime = timedelta(days=request.days) if request.days else None
    secret, expires = await parts.access.personal_tokens.create(caller, request.name, lifetime)
    await parts.access.audit(caller, "token.create", request.name)
    return wire.PersonalTokenSecret(login=caller.name, secret=secret, expires=expires)


@router.delete("/{name}", status_code=204)
async def delete_token(parts: Parts, caller: Caller, name: str, user: str = "") -> None:
    owner = await _owner(parts, caller, user)
    await parts.access.personal_tokens.delete(owner, name)
    await parts.access.audit(caller, "token.delete", name, detail={"user": owner})
