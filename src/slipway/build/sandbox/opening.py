"""From a sandbox that was made to one that runs, and to its end: the same whoever makes them."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from slipway.build.sandbox.sandbox import Sandbox
from slipway.build.sandbox.steps import Limits


class Opening(ABC):
    """Opens sandboxes."""

    @abstractmethod
    async def _make(self, build_id: str, limits: Limits) -> Sandbox:
        """One that is not started."""

    async def open(self, build_id: str, limits: Limits) -> Sandbox:
        """A running sandbox; its ``close`` has to be called."""
        sandbox = await self._make(build_id, limits)
        try:
            await sandbox.start()
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    @contextlib.asynccontextmanager
    async def start(self, build_id: str, limits: Limits) -> AsyncIterator[Sandbox]:
        """A running sandbox for the length of the block."""
        sandbox = await self.open(build_id, limits)
        try:
            yield sandbox
        finally:
            await sandbox.close()
