"""How a move of a tag travels from one site to another: in a header of the request that makes it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway.errors import Invalid
from slipway.registry.tagging import Move

MOVE_HEADER = "Slipway-Move"
_MOST_SITES = 64
_AHEAD_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Moved:
    """A move, and who pushed or removed the tag."""

    move: Move
    by: str

    def header(self) -> str:
        value = {**to_json(self.move), "by": self.by}
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def to_json(move: Move) -> dict[str, Any]:
    return {"stamp": move.stamp, "origin": move.origin, "versions": dict(move.versions)}


def parse_move(text: str) -> Moved:
    """Raises ``Invalid``."""
    try:
        value = json.loads(base64.urlsafe_b64decode(text.encode()))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the header {MOVE_HEADER} is malformed") from error
    return moved_from(value)


def moved_from(value: Any) -> Moved:
    """Raises ``Invalid``, also for a stamp far in the future: it would win against everybody for ever."""
    if not isinstance(value, Mapping) or not isinstance(versions := value.get("versions"), Mapping):
        raise Invalid("a move is an object with stamp, origin and versions")
    stamps = [value.get("stamp"), *versions.values()]
    latest = int((time.time() + _AHEAD_SECONDS) * 1000) << 16
    if not all(
        isinstance(item, int) and not isinstance(item, bool) and 0 < item <= latest for item in stamps
    ):
        raise Invalid(
            "a move has a stamp that cannot be", hint="is the clock of one of the sites wrong by a day?"
        )
    names = [value.get("origin"), *versions]
    if len(names) > _MOST_SITES or not all(isinstance(name, str) and 0 < len(name) <= 64 for name in names):
        raise Invalid("a move names sites that cannot be")
    if versions.get(value["origin"]) != value["stamp"]:
        raise Invalid("a move knows itself: its origin's version is its stamp")
    by = str(value.get("by") or "")[:200]
    return Moved(Move(value["stamp"], value["origin"], dict(versions)), by)
