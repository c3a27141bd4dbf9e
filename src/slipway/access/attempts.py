"""Wrong passwords, counted: whoever guesses is made to wait, and learns nothing while waiting."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from slipway.errors import Exhausted

WINDOW_SECONDS = 900.0
BY_NAME_AND_ADDRESS = 10
BY_ADDRESS = 100
BY_NAME = 50
_MOST = 50_000


class Attempts:
    """Failures of the last quarter of an hour, in memory, each server process its own.

    Ten wrong passwords from one address lock that address out of that account; somebody else's guesses alone do not
    lock its owner out, unless they come from so many addresses that the account as a whole is locked.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def check(self, name: str, address: str) -> None:
        """Raises ``Exhausted`` with ``retry_after`` in its context while there were too many failures."""
        present = self._clock()
        for key, limit in _keys(name, address):
            failed = self._failed.get(key)
            while failed and failed[0] <= present - WINDOW_SECONDS:
                failed.popleft()
            if failed and len(failed) >= limit:
                seconds = math.ceil(failed[0] + WINDOW_SECONDS - present)
                raise Exhausted(
                    "there were too many wrong passwords",
                    hint=f"try again in {seconds} s",
                    retry_after=seconds,
                )

    def failed(self, name: str, address: str) -> None:
        present = self._clock()
        for key, limit in _keys(name, address):
            self._failed.setdefault(key, deque(maxlen=limit)).append(present)
            self._failed.move_to_end(key)
        while len(self._failed) > _MOST:
            self._failed.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """The owner is here: what went wrong from this address was a slip."""
        self._failed.pop((name, address), None)


def _keys(name: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
    return ((name, address), BY_NAME_AND_ADDRESS), (("", address), BY_ADDRESS), ((name, ""), BY_NAME)
