"""What a move came to, and how long its phases took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from slipway.base.progress import Progress
from slipway.delivery.engine import AppRef


@dataclass(frozen=True, slots=True)
class Outcome:
    """The release that serves now. ``unchanged``: nothing had to be done for it."""

    app: AppRef
    release: int
    unchanged: bool
    urls: Sequence[str] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "project": self.app.project, "app": self.app.name, "release": self.release, "unchanged": self.unchanged,
            "urls": list(self.urls), "timings": dict(self.timings),
        }  # fmt: skip


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
