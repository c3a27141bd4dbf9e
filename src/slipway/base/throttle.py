"""No more than so many bytes a second."""

from __future__ import annotations

import asyncio
import time

_BURST_SECONDS = 0.5


class Throttle:
    """Shared by everything that goes over one line. ``rate`` 0 is no limit."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free = 0.0

    async def take(self, count: int) -> None:
        """Wait until ``count`` bytes more may go. They go in the order in which they were asked for."""
        if not self._rate:
            return
        present = time.monotonic()
        begin = max(self._free, present - _BURST_SECONDS)
        self._free = begin + count / self._rate
        if (delay := self._free - present) > 0:
            await asyncio.sleep(delay)
