"""Logging in through an OpenID provider. Each of these is asked by somebody who is not logged in yet."""

from __future__ import annotations

from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from slipway import wire
from slipway.access.oidc import Done, OidcLogins, Waiting
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Parts
from slipway.api.platform.services import Services
from slipway.errors import NotFound

router = APIRouter(prefix="/oidc", tags=["accounts"], route_class=BoundedRoute)
_COOKIE = "slipway_oidc"
_PATH = "/api/v1/oidc"
_SECONDS = 600
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}
_PAGE = """\
<!doctype html><meta charset="utf-8"><title>Slipway</title>
<style>body{{font:16px sans-serif;margin:4em auto;max-width:48em}}code{{user-select:all;word-break:break-all}}</style>
<h1>Logged in as {name}</h1>
<p>For the command line, until {expires}; it is shown this once:</p>
<p><code>{token}</code></p>
<p>Give it to <code>slipway login {server} --token-stdin</code>.</p>
"""


def _logins(parts: Services) -> OidcLogins:
    if parts.oidc is None:
        raise NotFound("this server has no OpenID provider", hint="`slipway login SERVER -u NAME`")
    return parts.oidc


@router.post("/device")
async def start_device(parts: Parts) -> wire.DeviceLogin:
    return wire.DeviceLogin.model_validate(await _logins(parts).start_device())


@router.post("/device/poll")
async def poll_device(parts: Parts, request: wire.DevicePoll) -> wire.DeviceAnswer:
    found = await _logins(parts).poll_device(request.device_code)
    if isinstance(found, Waiting):
        return wire.DeviceAnswer(state="slow_down" if found.slow_down else "pending")
    return wire.DeviceAnswer(state="done", name=found.name, token=found.token, expires=found.expires)


@router.get("/start", response_class=RedirectResponse)
async def start(parts: Parts, request: Request) -> RedirectResponse:
    """Send the browser to the provider."""
    url, kept = await _logins(parts).start_browser(f"{_origin(request)}{_PATH}/callback")
    answer = RedirectResponse(url, 303, {"Cache-Control": "no-store"})
    answer.set_cookie(
        _COOKIE,
        kept,
        _SECONDS,
        path=_PATH,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


@router.get("/callback", response_class=HTMLResponse)
async def callback(parts: Parts, request: Request) -> HTMLResponse:
    """Where the provider sends the browser back to."""
    kept = request.cookies.get(_COOKIE, "")
    found = await _logins(parts).finish_browser(kept, dict(request.query_params))
    answer = HTMLResponse(_page(found, _origin(request)), headers=_HEADERS)
    answer.delete_cookie(_COOKIE, path=_PATH)
    return answer


def _origin(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _page(found: Done, server: str) -> str:
    expires = found.expires.isoformat(" ", "minutes")
    return _PAGE.format(
        name=escape(found.name), token=escape(found.token), expires=escape(expires), server=escape(server)
    )
