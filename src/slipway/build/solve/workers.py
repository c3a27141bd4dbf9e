"""The sandbox of a build, started when the first step has to run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from slipway.build.sandbox import Sandbox

StartSandbox = Callable[[], Awaitable[Sandbox]]


class Workers:
    """Owns at most one sandbox; ``close`` ends it and everything in it."""

    def __init__(self, start: StartSandbox) -> None:
        self._start = start
        self._lock = asyncio.Lock()
        self._sandbox: Sandbox | None = None

    async def sandbox(self) -> Sandbox:
        async with self._lock:
            if self._sandbox is None:
                self._sandbox = await self._start()
            return self._sandbox

    async def close(self) -> None:
        if self._sandbox is not None:
            await self._sandbox.close()
            self._sandbox = None
