"""Nodes that lost a worker a while ago."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from slipway.build.pods.desk import WorkerLost

_SECONDS = 300.0
_MOST = 50  # a Pod names all those of its cluster


class OnNode(Protocol):
    """Something that is on a node, or on its way to one: ``node`` is empty then."""

    @property
    def cluster(self) -> str: ...

    @property
    def node(self) -> str: ...


class Troubled:
    """Of all clusters and all builds; builds prefer other nodes to these. One event loop has it.

    What was wrong with a node may be over, and nobody says so: after some minutes it is forgotten.
    """

    def __init__(self, seconds: float = _SECONDS, most: int = _MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._until: dict[tuple[str, str], float] = {}

    @contextmanager
    def noting(self, worker: OnNode) -> Iterator[None]:
        """A worker that is lost within the block is held against its node."""
        try:
            yield
        except WorkerLost:
            if worker.node:
                self.add(worker.cluster, worker.node)
            raise

    def add(self, cluster: str, node: str) -> None:
        self._until.pop((cluster, node), None)
        self._until[cluster, node] = time.monotonic() + self._seconds
        while len(self._until) > self._most:
            del self._until[next(iter(self._until))]

    def of(self, cluster: str) -> frozenset[str]:
        """Names of nodes."""
        now = time.monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        return frozenset(node for where, node in self._until if where == cluster)
