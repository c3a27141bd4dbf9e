"""How long work tells what it is doing: one small mapping an event, given to a callback.

Every event has the key ``event``; the others depend on it (``slipway.wire`` lists them all). Callbacks are
called from the event loop's thread, must not block and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Event = Mapping[str, Any]
Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignores what it is told."""
