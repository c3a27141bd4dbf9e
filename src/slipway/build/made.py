"""What an operation made, and who remembers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from slipway.snapshots import LayerRef


@dataclass(frozen=True, slots=True)
class Made:
    """The layer an operation made (``None``: it changed nothing) and when."""

    layer: LayerRef | None
    uncompressed: int
    created: datetime


class Results(Protocol):
    """What operations made, by key: as much as a solver asks for."""

    async def get(self, key: str) -> Made | None: ...

    async def put(self, key: str, made: Made, description: str) -> None: ...
