"""The application: routers, and the one error mapper."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, Response

from slipway import __version__
from slipway.api.platform import (
    accounts,
    agents,
    apps,
    builds,
    clusters,
    commands,
    findings,
    images,
    oidc,
    policies,
    sites,
    status,
    tls,
    tokens,
    webhooks,
    workers,
)
from slipway.api.platform.errors import respond
from slipway.api.platform.services import Services
from slipway.errors import Invalid, SlipwayError


def create_app(services: Services) -> FastAPI:
    app = FastAPI(
        title="Slipway",
        version=__version__,
        docs_url="/api/docs",
        openapi_url="/api/openapi.json",
        redoc_url=None,
    )
    app.state.services = services
    app.state.commands = {}
    for module in (
        status, tls, accounts, oidc, tokens, policies, sites, webhooks, findings, images, builds, agents, apps,
        commands, clusters, workers,
    ):  # fmt: skip
        app.include_router(module.router, prefix="/api/v1")
    app.add_exception_handler(SlipwayError, _known)
    app.add_exception_handler(RequestValidationError, _malformed)
    return app


async def _known(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SlipwayError)
    return respond(error)


async def _malformed(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return respond(Invalid(f"{place}: {first['msg']}", hint="see /api/docs"))
