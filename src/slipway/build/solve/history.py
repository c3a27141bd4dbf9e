"""An image's history and times, step by step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from slipway.base.clock import iso
from slipway.build.made import Made
from slipway.build.plan import StageState
from slipway.oci import HistoryEntry


def recorded(state: StageState, created_by: str, made: Made | None, epoch: int | None = None) -> StageState:
    """The state with one more line of history; times are the layers', so that a cached build changes nothing."""
    when: datetime | None = made.created if made else None
    created = iso(when) if when else state.config.created
    if state.config.created and created < state.config.created:
        created = state.config.created
    if epoch is not None:
        created = time_of(epoch)
    entry = HistoryEntry(created_by, created, empty_layer=made is None or made.layer is None)
    config = replace(state.config, history=(*state.config.history, entry), created=created)
    return replace(state, config=config)


def time_of(epoch: int) -> str:
    return iso(datetime.fromtimestamp(epoch, UTC))
