"""Steps that workers of other builds carry out as well: the server knows who does it, the others wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from slipway.build.pod.server import Server
from slipway.build.pods import forms
from slipway.build.solve.inflight import InFlight
from slipway.build.solve.layers import MadeLayer
from slipway.errors import SlipwayError


class JoinedSteps(InFlight[MadeLayer]):
    """The work in flight of this worker, and of all others of the project."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._wanted: dict[str, asyncio.Event] = {}
        server.wanted = self._want

    async def once(
        self, key: str, make: Callable[[], Awaitable[MadeLayer]], wanted: asyncio.Event | None = None,
        *, fresh: bool = False,
    ) -> tuple[MadeLayer, bool]:  # fmt: skip
        """``fresh`` is this build's own affair."""

        async def joined() -> MadeLayer:
            return await self._joined(key, make, wanted)

        return await super().once(key, make if fresh else joined, wanted, fresh=fresh)

    async def _joined(
        self, key: str, make: Callable[[], Awaitable[MadeLayer]], wanted: asyncio.Event | None
    ) -> MadeLayer:
        while said := await self._server.ask("step.begin", key=key):
            if "made" in said:
                return MadeLayer(forms.made_from_json(said["made"]), True)
        if wanted is not None:
            self._wanted[key] = wanted
        try:
            return await make()
        except Exception:
            with suppress(SlipwayError):  # it is over with this worker at the latest
                await self._server.ask("step.end", key=key)
            raise
        finally:
            self._wanted.pop(key, None)

    def _want(self, key: str) -> None:
        """Another build waits for a step whose layer nobody was in a hurry to write."""
        if (wanted := self._wanted.get(key)) is not None:
            wanted.set()
