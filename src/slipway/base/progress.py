"""How long work tells what it is doing: one small mapping an event, given to a callback.

Every event has the key ``event``; the others depend on it (``slipway.wire`` lists them all). Callbacks are
called from the event loop's thread, must not block and must not raise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Event = Mapping[str, Any]
Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignores what it is told."""


class Phases:
    """Phases as events, and their times."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.timings: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        self._progress({"event": "phase", "name": name, "state": "start"})
        yield
        seconds = round(time.monotonic() - began, 3)
        self.timings[name] = seconds
        self._progress({"event": "phase", "name": name, "state": "done", "seconds": seconds})
