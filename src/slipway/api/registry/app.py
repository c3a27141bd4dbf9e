"""The routes below /v2/ and /token."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from slipway.access import ANONYMOUS, Access, Identity
from slipway.api.registry import blobs, manifests
from slipway.api.registry.auth import Authentication, Caller, address_of
from slipway.api.registry.bodies import DEFAULT_PACE, Pace, pieces
from slipway.api.registry.errors import Coded, respond
from slipway.api.registry.search import SearchRoutes
from slipway.api.registry.sites import SiteRoutes
from slipway.base.rate import RateLimit
from slipway.errors import Exhausted, Invalid, SlipwayError, Unauthenticated, Unsupported
from slipway.oci.reference import is_repository
from slipway.registry import Registry
from slipway.registry.gate import PullGate
from slipway.registry.moves import MOVE_HEADER, parse_move
from slipway.registry.through import PullThrough

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
_MOST_FORM = 64 * 1024
UNLIMITED = RateLimit(0)
_PREFIX = "/v2/"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}


class _Api:
    def __init__(
        self, registry: Registry, access: Access, pace: Pace, rate: RateLimit, through: PullThrough,
        gate: PullGate | None,
    ) -> None:  # fmt: skip
        self._gate = gate
        self._through = through
        self._rate = rate
        self._registry = registry
        self._access = access
        self._pace = pace
        self._auth = Authentication(access)
        self._sites = SiteRoutes(registry.feed, access)
        token = Route("/token", self._token, methods=["GET", "POST"])
        search = SearchRoutes(registry, access, self._auth)
        self._others = Starlette(routes=[token, *search.routes()])

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
            self._check_rate(caller, request)
            if path == "":
                return self._root(request, caller)
            if path == "_catalog":
                return await self._catalog(request, caller)
            if path.startswith("_slipway/"):
                return await self._site(request, path.removeprefix("_slipway/"), caller)
            return await self._route(request, path, caller)
        except Coded as error:
            return respond(error.error, error.code)
        except Unauthenticated as error:
            return respond(error, headers=self._auth.challenge(request) | _VERSION)
        except SlipwayError as error:
            return respond(error)

    def _check_rate(self, caller: Caller, request: Request) -> None:
        key = address_of(request) if caller.name == ANONYMOUS.name else caller.name
        if wait := self._rate.take(key):
            seconds = math.ceil(wait)
            raise Exhausted(
                "there were too many requests", hint=f"try again in {seconds} s", retry_after=seconds
            )

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
            if not any(grant.type == "registry" and "*" in grant.actions for grant in caller.grants):
                return respond(Unauthenticated("the catalog needs a login"), headers=challenge)
            identity = await self._access.identity_of(caller.name)
        visible = [project.name for project in await self._access.projects(identity)]
        count = manifests.page_size(request, default=100)
        found = await self._registry.lists.catalog(visible, count, request.query_params.get("last", ""))
        reached = [name for name in found if identity.reaches(name)]
        return manifests.page(request, {"repositories": reached}, found, count)

    async def _site(self, request: Request, path: str, caller: Caller) -> Response:
        identity = caller.identity or await self._access.identity_of(caller.name)
        if identity.kind == "anonymous":
            raise Unauthenticated("sites have to log in")
        answer = await self._sites.answer(request, path, identity)
        return answer or respond(Invalid("there is no such endpoint"), "NAME_INVALID")

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
        asked = match[0][len(name) :]  # a repository may itself be called …/manifests or …/blobs/uploads
        upload = asked.startswith("/blobs/uploads")
        action = "push" if upload else _ACTIONS.get(request.method, "push")
        move = request.headers.get(MOVE_HEADER)
        if move:
            action = "delete"  # who tells what happened at other sites decides what holds here
        try:
            own = asked.startswith("/manifests/") and not move
            request.state.own = await self._own_only(caller, name, action, possible=own)
            source = request.query_params.get("from", "") if request.query_params.get("mount") else ""
            request.state.owner = caller.name
            request.state.through = self._through
            request.state.gate = self._gate
            if action != "pull":
                await self._through.refuse_push(name)
            request.state.moved = parse_move(move) if move else None
            request.state.pace = self._pace
            request.state.may_mount = bool(source) and await self._may_pull(caller, source)
            return await handler(self._registry, request, name, rest)
        except Unauthenticated as error:
            return respond(error, headers=self._auth.challenge(request, name, action) | _VERSION)
        except Coded:
            raise
        except SlipwayError as error:
            return respond(error, code)

    async def _own_only(self, caller: Caller, name: str, action: str, *, possible: bool) -> bool:
        """Whether ``action`` is allowed for what the caller pushed only; raises unless it is allowed at all.

        Who may push may take back a tag or an image that nobody else had a part in.
        """
        if possible and action == "delete" and not await self._auth.may(caller, name, action):
            await self._auth.require(caller, name, "push")
            return True
        await self._auth.require(caller, name, action)
        return False

    async def _may_pull(self, caller: Caller, repository: str) -> bool:
        try:
            await self._auth.require(caller, repository, "pull")
        except SlipwayError:
            return False
        return True

    async def _token(self, request: Request) -> Response:
        """GET with Basic (or anonymous), or the OAuth2 form of POST."""
        try:
            asked = await self._form(request) if request.method == "POST" else await self._query(request)
            return JSONResponse(await self._auth.token(asked.identity, asked.scopes, offline=asked.offline))
        except SlipwayError as error:
            return respond(error)

    async def _query(self, request: Request) -> _Asked:
        header = request.headers.get("authorization", "")
        scopes = [word for item in request.query_params.getlist("scope") for word in item.split()]
        if not header and not scopes:
            raise Unauthenticated("log in to get a token")
        identity = await self._auth.basic(header, address_of(request)) if header else ANONYMOUS
        return _Asked(identity, scopes, request.query_params.get("offline_token") == "true")

    async def _form(self, request: Request) -> _Asked:
        body = b""
        async for piece in pieces(request, self._pace):
            body += piece
            if len(body) > _MOST_FORM:
                raise Invalid("the form is too large")
        form = {key: values[0] for key, values in parse_qs(body.decode(errors="replace")).items()}
        scopes, kind = form.get("scope", "").split(), form.get("grant_type")
        if kind == "refresh_token":
            identity = await self._access.check_session(form.get("refresh_token", ""), "refresh")
            return _Asked(identity, scopes, False)
        if kind == "password":
            name, secret = form.get("username", ""), form.get("password", "")
            identity = await self._access.authenticate(name, secret, address_of(request))
            return _Asked(identity, scopes, form.get("access_type") == "offline")
        raise Invalid("grant_type is password or refresh_token")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What somebody wants a token for; ``offline``: and one to get more of them."""

    identity: Identity
    scopes: list[str]
    offline: bool


def create_app(
    registry: Registry, access: Access, through: PullThrough, pace: Pace = DEFAULT_PACE,
    rate: RateLimit = UNLIMITED, gate: PullGate | None = None,
) -> ASGIApp:  # fmt: skip
    """The registry as an ASGI application. Clients that send bodies slower than ``pace`` are ended; ``rate`` is for
    each account, and for each address of those without one; ``gate`` decides which images can be pulled."""
    return _Api(registry, access, pace, rate, through, gate)
