"""Bodies that are read whole before a route begins: JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from slipway.api.platform.callers import identity_of
from slipway.errors import Invalid

MOST_OF_ANYBODY = 64 * 1024
SECONDS_OF_ANYBODY = 30.0
MOST = 32 * 1024 * 1024  # a Dockerfile in the request has half of it at the most


class BoundedRoute(APIRoute):
    """The framework reads a body before it asks who sends it: large or slow ones are taken of callers we know only."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:  # nothing is read, or by the route itself
            return handle

        async def bounded(request: Request) -> Response:
            request = _Bounded(request.scope, request.receive)
            with suppress(ClientDisconnect):  # which the framework meets again
                await request.body()
            return await handle(request)

        return bounded


class _Bounded(Request):
    async def body(self) -> bytes:
        """Raises ``Invalid`` when it is too large or too slow, ``Unauthenticated`` when it is for somebody unknown."""
        if not hasattr(self, "_body"):
            try:
                self._body = await self._read()
            except TimeoutError as error:
                raise Invalid(f"the request did not come within {SECONDS_OF_ANYBODY:g} s") from error
        return self._body

    async def _read(self) -> bytes:
        found, known = bytearray(), False
        async with asyncio.timeout(SECONDS_OF_ANYBODY) as patience:
            async for piece in self.stream():
                found += piece
                if len(found) > MOST:
                    raise Invalid(f"the request is larger than {MOST} bytes")
                if len(found) > MOST_OF_ANYBODY and not known:
                    await identity_of(self)
                    known = True
                    patience.reschedule(None)
        return bytes(found)
