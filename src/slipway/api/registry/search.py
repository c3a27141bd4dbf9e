"""``docker search HOST/WORD``: the one part of Docker's first registry protocol that clients still use."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from slipway.access import ANONYMOUS, Access, Identity
from slipway.api.registry.auth import Authentication
from slipway.api.registry.errors import respond
from slipway.api.registry.manifests import page_size
from slipway.errors import SlipwayError, Unauthenticated
from slipway.registry import Registry
from slipway.registry.lists import parse_words

_MOST = 100
_NOT_ALONE = {"X-Docker-Registry-Standalone": "false"}
"""A client that is not logged in is not to send an empty login."""


class SearchRoutes:
    """Everybody finds what they may pull; who is not logged in, public projects."""

    def __init__(self, registry: Registry, access: Access, auth: Authentication) -> None:
        self._registry = registry
        self._access = access
        self._auth = auth

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/v1/_ping", self._ping), Route("/v1/search", self._search)]

    async def _ping(self, _request: Request) -> Response:
        return JSONResponse({"standalone": False}, headers=_NOT_ALONE)

    async def _search(self, request: Request) -> Response:
        """``q`` are words, ``n`` is how many results there are to be."""
        try:
            identity = await self._identity(request)
            text, count = request.query_params.get("q", ""), page_size(request, default=25)
            projects = [project.name for project in await self._access.projects(identity)]
            found = await self._registry.lists.search(parse_words(text), projects, min(count, _MOST))
        except Unauthenticated as error:
            return respond(error, headers=self._auth.challenge(request))
        except SlipwayError as error:
            return respond(error)
        results = [
            {
                "name": item.repository, "description": item.description, "star_count": 0,
                "is_official": False, "is_automated": False,
            }
            for item in found
            if identity.reaches(item.repository)
        ]  # fmt: skip
        return JSONResponse({"query": text, "num_results": len(results), "results": results})

    async def _identity(self, request: Request) -> Identity:
        """A token tells who somebody is here only if it was asked for the catalog."""
        caller = await self._auth.caller(request)
        if caller.identity is not None:
            return caller.identity
        if any(grant.type == "registry" and grant.actions for grant in caller.grants):
            return await self._access.identity_of(caller.name)
        return ANONYMOUS
