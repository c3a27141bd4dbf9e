"""How often somebody may ask."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST = 50_000
_BURST_SECONDS = 10.0


class RateLimit:
    """``rate`` requests a second for each key, and ten seconds' worth of them at once; 0 is no limit."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> float:
        """Count one request; 0, or the seconds after which it would have been welcome."""
        if not self._rate:
            return 0.0
        present = self._clock()
        begin = max(self._full_at.get(key, 0.0), present)
        if begin - present > _BURST_SECONDS:
            return begin - present - _BURST_SECONDS
        self._full_at[key] = begin + 1 / self._rate
        self._full_at.move_to_end(key)
        while len(self._full_at) > _MOST:
            self._full_at.popitem(last=False)
        return 0.0
