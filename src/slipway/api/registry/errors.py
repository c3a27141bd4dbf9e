"""Errors as the distribution specification words them."""

from __future__ import annotations

from starlette.responses import JSONResponse

from slipway.api.registry.bodies import TooSlow
from slipway.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    NotFound,
    SlipwayError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from slipway.registry.manifests import MissingReference
from slipway.registry.uploads import OutOfOrder

_DEFAULTS: tuple[tuple[type[SlipwayError], int, str], ...] = (
    (TooSlow, 408, "BLOB_UPLOAD_INVALID"),
    (OutOfOrder, 416, "BLOB_UPLOAD_INVALID"),
    (MissingReference, 404, "MANIFEST_BLOB_UNKNOWN"),
    (Unauthenticated, 401, "UNAUTHORIZED"),
    (Denied, 403, "DENIED"),
    (NotFound, 404, "NAME_UNKNOWN"),
    (Conflict, 409, "DENIED"),
    (Invalid, 400, "UNSUPPORTED"),
    (Exhausted, 507, "TOOMANYREQUESTS"),
    (Unavailable, 503, "TOOMANYREQUESTS"),
    (Unsupported, 405, "UNSUPPORTED"),
    (SlipwayError, 500, "UNSUPPORTED"),
)


class Coded(Exception):
    """An error with the code its endpoint gives it."""

    def __init__(self, error: SlipwayError, code: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code


def respond(error: SlipwayError, code: str = "", headers: dict[str, str] | None = None) -> JSONResponse:
    """The response for ``error``. ``code`` is the endpoint's own word for a missing or malformed thing."""
    status, default = next((status, word) for kind, status, word in _DEFAULTS if isinstance(error, kind))
    if status not in (400, 404) or isinstance(error, MissingReference | OutOfOrder):
        code = default
    if (seconds := error.context.get("retry_after")) is not None:
        status, code, headers = 429, "TOOMANYREQUESTS", {**(headers or {}), "Retry-After": str(seconds)}
    if isinstance(error, Exhausted) and "limit is" in error.message:
        status, code = 413, "SIZE_INVALID"
    if isinstance(error, TooSlow):  # the rest of the body is not awaited
        headers = {**(headers or {}), "Connection": "close"}
    body = {"errors": [{"code": code or default, "message": error.message, "detail": error.hint or None}]}
    return JSONResponse(body, status, headers)
