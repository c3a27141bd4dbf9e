"""What one Slipway asks another: who it is, what changed, to make room for a project."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slipway.access import Access, Identity
from slipway.errors import Conflict, Denied, Invalid
from slipway.registry.feed import Feed

_MOST_CHANGES = 500
_MOST_SECONDS = 30
_LOOK_SECONDS = 0.5


class SiteRoutes:
    """Below ``/v2/_slipway/``, a name that no repository can have. ``identity`` is who asks."""

    def __init__(self, feed: Feed, access: Access) -> None:
        self._feed = feed
        self._access = access

    async def answer(self, request: Request, path: str, identity: Identity) -> Response | None:
        """``None`` where there is no such thing."""
        if path == "site" and request.method == "GET":
            return JSONResponse({"site": await self._feed.site() or "unnamed"})
        if path == "changes" and request.method == "GET":
            return await self._changes(request, identity)
        head, _, project = path.partition("/")
        if head == "projects" and request.method == "PUT":
            return await self._project(project, identity)
        return None

    async def _changes(self, request: Request, identity: Identity) -> Response:
        """At most ``n`` after the sequence ``after``; ``wait`` seconds long there may be none."""
        after, count, wait = (_number(request, name) for name in ("after", "n", "wait"))
        end = time.monotonic() + min(wait, _MOST_SECONDS)
        while await self._feed.head() <= after and time.monotonic() < end:
            if await request.is_disconnected():
                break
            await asyncio.sleep(_LOOK_SECONDS)
        head = await self._feed.head()
        projects = None if identity.is_admin else await self._readable(identity)
        changes = await self._feed.since(after, min(count or _MOST_CHANGES, _MOST_CHANGES), projects)
        while changes and not any(identity.reaches(change.repository) for change in changes):
            changes = await self._feed.since(changes[-1].sequence, _MOST_CHANGES, projects)
        told = [change.to_json() for change in changes if identity.reaches(change.repository)]
        return JSONResponse({"head": head, "changes": told})

    async def _readable(self, identity: Identity) -> list[str]:
        return [project.name for project in await self._access.projects(identity)]

    async def _project(self, name: str, identity: Identity) -> Response:
        if not identity.is_admin:
            raise Denied(f"{identity.name} may not create projects", hint="this needs an administrator")
        try:
            await self._access.create_project(name)
            await self._access.audit(identity, "project.create", name, project=name)
        except Conflict:
            return Response(status_code=200)
        return Response(status_code=201)


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(f"not a number: {name}={text[:40]!r}")
    return int(text)
