"""The build context of one build, and whether it is as it was."""

from __future__ import annotations

import asyncio

from slipway.build.context import Context
from slipway.build.copy import fingerprint
from slipway.build.keys import frame
from slipway.build.tree import OpenContext


class Source:
    """``ignored`` is the text of the ignore file: it decides, too, what there is to copy."""

    def __init__(self, context: OpenContext, ignored: str) -> None:
        self.context = context
        self._ignored = ignored
        self._looking: asyncio.Task[bytes | None] | None = None

    async def facts(self) -> bytes | None:
        """What tells this content from any other; ``None`` if nothing does. Looked at once."""
        if not isinstance(self.context, Context):
            return None  # a list that is used once
        if self._looking is None:
            self._looking = asyncio.create_task(asyncio.to_thread(fingerprint, self.context.fd))
        found = await asyncio.shield(self._looking)
        return frame(found, self._ignored) if found is not None else None

    async def settle(self) -> None:
        """Wait for what still looks at the context, before it is closed."""
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)
