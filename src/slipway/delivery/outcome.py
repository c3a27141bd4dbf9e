"""What a move came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
