"""Errors as the platform API words them: ``{"error": {kind, message, hint, context}}``."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from slipway.errors import SlipwayError

STATUS = {
    "not_found": 404,
    "conflict": 409,
    "invalid": 400,
    "unauthenticated": 401,
    "denied": 403,
    "unavailable": 503,
    "exhausted": 507,
    "unsupported": 501,
    "failed": 422,
    "cancelled": 499,
    "interrupted": 503,
}


def body(error: SlipwayError) -> dict[str, Any]:
    context = {
        key: value for key, value in error.context.items() if isinstance(value, str | int | float | list)
    }
    return {"kind": error.kind, "message": error.message, "hint": error.hint, "context": context}


def respond(error: SlipwayError) -> JSONResponse:
    if (seconds := error.context.get("retry_after")) is not None:
        return JSONResponse({"error": body(error)}, 429, {"Retry-After": str(seconds)})
    return JSONResponse({"error": body(error)}, STATUS.get(error.kind, 500))
