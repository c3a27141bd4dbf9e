"""The routes below /v2/ and /token."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from slipway.access import ANONYMOUS, Access, Permission
from slipway.api.registry import blobs, manifests
from slipway.api.registry.auth import Authentication, Caller
from slipway.api.registry.errors import Coded, respond
from slipway.errors import Invalid, SlipwayError, Unauthenticated, Unsupported
from slipway.oci.reference import is_repository
from slipway.registry import Registry

Handler = Callable[[Registry, Request, str, str], Awaitable[Response]]
_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}
_REPOSITORY = r"(?P<name>[^:@]{1,255})"
_ROUTES: tuple[tuple[re.Pattern[str], str, dict[str, Handler]], ...] = (
    (
        re.compile(f"{_REPOSITORY}/tags/list(?P<rest>)"),
        "NAME_UNKNOWN",
        {"GET": manifests.tags, "HEAD": manifests.tags},
    ),
    (
        re.compile(f"{_REPOSITORY}/manifests/(?P<rest>[^/]+)"),
        "MANIFEST_UNKNOWN",
        {"GET": manifests.get, "HEAD": manifests.get, "PUT": manifests.put, "DELETE": manifests.remove},
    ),
    (
        re.compile(f"{_REPOSITORY}/referrers/(?P<rest>[^/]+)"),
        "NAME_UNKNOWN",
        {"GET": manifests.referrers, "HEAD": manifests.referrers},
    ),
    (re.compile(f"{_REPOSITORY}/blobs/uploads/?(?P<rest>)"), "NAME_UNKNOWN", {"POST": blobs.start}),
    (
        re.compile(f"{_REPOSITORY}/blobs/uploads/(?P<rest>[^/]+)"),
        "BLOB_UPLOAD_UNKNOWN",
        {
            "GET": blobs.status,
            "HEAD": blobs.status,
            "PATCH": blobs.append,
            "PUT": blobs.finish,
            "DELETE": blobs.cancel,
        },
    ),
    (
        re.compile(f"{_REPOSITORY}/blobs/(?P<rest>[^/]+)"),
        "BLOB_UNKNOWN",
        {"GET": blobs.get, "HEAD": blobs.get, "DELETE": blobs.remove},
    ),
)
_PREFIX = "/v2/"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}


class _Api:
    def __init__(self, registry: Registry, access: Access) -> None:
        self._registry = registry
        self._access = access
        self._auth = Authentication(access)
        self._others = Starlette(routes=[Route("/token", self._token, methods=["GET", "POST"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything below /v2/ comes here directly: the way through a framework's middleware and routes, which would
        end here as well, takes longer than most answers do."""
        if scope["type"] == "http" and f"{scope['path']}/".startswith(_PREFIX):
            response = await self._dispatch(Request(scope, receive), scope["path"][len(_PREFIX) :])
            await response(scope, receive, send)
        else:
            await self._others(scope, receive, send)

    async def _dispatch(self, request: Request, path: str) -> Response:
        if request.method not in _METHODS:
            return respond(Unsupported(f"{request.method[:20]} is not possible here"))
        try:
            caller = await self._auth.caller(request)
            if path == "":
                return self._root(request, caller)
            if path == "_catalog":
                return await self._catalog(request, caller)
            return await self._route(request, path, caller)
        except Coded as error:
            return respond(error.error, error.code)
        except Unauthenticated as error:
            return respond(error, headers=self._auth.challenge(request) | _VERSION)
        except SlipwayError as error:
            return respond(error)

    def _root(self, request: Request, caller: Caller) -> Response:
        if caller.identity is ANONYMOUS:
            error = Unauthenticated("log in", hint="docker login")
            return respond(error, headers=self._auth.challenge(request) | _VERSION)
        return JSONResponse({}, headers=_VERSION)

    async def _catalog(self, request: Request, caller: Caller) -> Response:
        identity = caller.identity
        if identity is None or identity.kind == "anonymous":
            challenge = self._auth.challenge(request)
            challenge["WWW-Authenticate"] += ',scope="registry:catalog:*"'
            if not any(grant.type == "registry" for grant in caller.grants):
                return respond(Unauthenticated("the catalog needs a login"), headers=challenge)
            identity = await self._access.identity_of(caller.name)
        projects = [project.name for project in await self._access.projects(identity)]
        visible = [
            name for name in projects if Permission.PULL in await self._access.permissions(identity, name)
        ]
        count = manifests.page_size(request, default=100)
        found = await self._registry.catalog(visible, count, request.query_params.get("last", ""))
        return manifests.page(request, {"repositories": found}, found, count)

    async def _route(self, request: Request, path: str, caller: Caller) -> Response:
        for pattern, code, handlers in _ROUTES:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            handler = handlers.get(request.method)
            if handler is None:
                return respond(Unsupported(f"{request.method} is not possible here"))
            return await self._guarded(request, caller, match, code, handler)
        return respond(Invalid("there is no such endpoint"), "NAME_INVALID")

    async def _guarded(
        self, request: Request, caller: Caller, match: re.Match[str], code: str, handler: Handler
    ) -> Response:
        name, rest = match["name"], match["rest"]
        if not is_repository(name):
            return respond(Invalid(f"not a repository name: {name[:200]!r}"), "NAME_INVALID")
        upload = "/blobs/uploads" in request.url.path
        action = "push" if upload else _ACTIONS.get(request.method, "push")
        try:
            await self._auth.require(caller, name, action)
            source = request.query_params.get("from", "") if request.query_params.get("mount") else ""
            request.state.owner = caller.name
            request.state.may_mount = bool(source) and await self._may_pull(caller, source)
            return await handler(self._registry, request, name, rest)
        except Unauthenticated as error:
            return respond(error, headers=self._auth.challenge(request, name, action) | _VERSION)
        except Coded:
            raise
        except SlipwayError as error:
            return respond(error, code)

    async def _may_pull(self, caller: Caller, repository: str) -> bool:
        try:
            await self._auth.require(caller, repository, "pull")
        except SlipwayError:
            return False
        return True

    async def _token(self, request: Request) -> Response:
        """GET with Basic (or anonymous), or the OAuth2 form of POST."""
        try:
            header = request.headers.get("authorization", "")
            scopes = [word for item in request.query_params.getlist("scope") for word in item.split()]
            identity = ANONYMOUS
            if request.method == "POST":
                form = parse_qs((await request.body())[:65536].decode(errors="replace"))
                scopes += [word for item in form.get("scope", []) for word in item.split()]
                if form.get("grant_type") != ["password"]:
                    raise Invalid("only grant_type=password is supported")
                name, secret = form.get("username", [""])[0], form.get("password", [""])[0]
                identity = await self._access.authenticate(name, secret)
            elif header:
                identity = await self._auth.basic(header)
            elif not scopes:
                raise Unauthenticated("log in to get a token")
            return JSONResponse(await self._auth.token(identity, scopes))
        except SlipwayError as error:
            return respond(error)


def create_app(registry: Registry, access: Access) -> ASGIApp:
    """The registry as an ASGI application."""
    return _Api(registry, access)
