"""Webhooks of a project; its admins' business."""

from __future__ import annotations

from fastapi import APIRouter

from slipway import wire
from slipway.access import Permission
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts

router = APIRouter(tags=["webhooks"], route_class=BoundedRoute)


@router.get("/projects/{name}/webhooks")
async def webhooks(parts: Parts, caller: Caller, name: str) -> list[wire.Webhook]:
    await parts.access.require(caller, name, Permission.MANAGE)
    return [wire.Webhook.model_validate(item) for item in await parts.webhooks.all(name)]


@router.post("/projects/{name}/webhooks", status_code=201)
async def add_webhook(parts: Parts, caller: Caller, name: str, request: wire.NewWebhook) -> wire.Webhook:
    await parts.access.require(caller, name, Permission.MANAGE)
    made = await parts.webhooks.add(name, request.url, request.kinds)
    await parts.access.audit(caller, "webhook.add", request.url, project=name)
    return wire.Webhook.model_validate(made)


@router.delete("/projects/{name}/webhooks/{number}", status_code=204)
async def remove_webhook(parts: Parts, caller: Caller, name: str, number: int) -> None:
    await parts.access.require(caller, name, Permission.MANAGE)
    await parts.webhooks.remove(name, number)
    await parts.access.audit(caller, "webhook.remove", str(number), project=name)


@router.get("/projects/{name}/webhooks/{number}/deliveries")
async def deliveries(parts: Parts, caller: Caller, name: str, number: int) -> list[wire.WebhookDelivery]:
    await parts.access.require(caller, name, Permission.MANAGE)
    return [
        wire.WebhookDelivery.model_validate(item) for item in await parts.webhooks.deliveries(name, number)
    ]
