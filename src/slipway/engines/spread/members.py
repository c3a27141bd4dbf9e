"""What the spread engine asks about clusters and their projects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from slipway.delivery.engine import Engine
from slipway.fleet import Health


class Members(Protocol):
    """Every cluster that is known here, with its engine."""

    async def engine(self, cluster: str) -> Engine:
        """The same object as long as the cluster is the same. Raises ``NotFound``."""
        ...

    async def weights(self, project: str) -> Mapping[str, int]:
        """The clusters a project is bound to; of weight 0: that get nothing new."""
        ...

    async def all_weights(self) -> Mapping[str, Mapping[str, int]]:
        """By project; by one question."""
        ...

    def health(self, cluster: str) -> Health:
        """As of the last look; asks nobody."""
        ...
