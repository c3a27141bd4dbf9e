"""A client that waits while the cluster's API server is away, and says so."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from slipway.base.progress import Progress
from slipway.errors import Unavailable
from slipway.kubernetes import ClusterClient, Propagation

T = TypeVar("T")
log = logging.getLogger(__name__)
AWAY_SECONDS = 300.0
_PAUSE = 1.0


class PatientClient:
    """For one piece of work. ``lost``: how many seconds of it the API server was away, which count for no deadline."""

    def __init__(self, client: ClusterClient, progress: Progress, away: float = AWAY_SECONDS) -> None:
        self.client = client
        self.lost = 0.0
        self._progress = progress
        self._away = away
        self._said = ""
        self._since: float | None = None

    async def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        return await self._patiently(lambda: self.client.get(kind, name, namespace))

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: dict[str, str] | str | None = None,
        fields: str = "",
    ) -> list[dict[str, Any]]:
        found = await self._patiently(lambda: self.client.list(kind, namespace, labels, fields or None))
        return found.items

    async def apply(self, obj: dict[str, Any]) -> dict[str, Any]:
        return await self._patiently(lambda: self.client.apply(obj))

    async def create(self, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        return await self._patiently(lambda: self.client.create(obj, dry_run=dry_run))

    async def delete(
        self, obj: dict[str, Any], propagation: Propagation = "Background", *, unchanged: bool = False
    ) -> bool:
        """This object, and no later one of its name; with ``unchanged``, only as it was seen. Else ``Conflict``."""
        metadata = obj["metadata"]
        version = metadata["resourceVersion"] if unchanged else None
        return await self._patiently(
            lambda: self.client.delete(
                obj["kind"], metadata["name"], metadata.get("namespace"), propagation=propagation,
                uid=metadata.get("uid"), version=version,
            )
        )  # fmt: skip

    async def _patiently(self, send: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                answer = await send()
            except Unavailable as error:
                now = time.monotonic()
                self._since = now if self._since is None else self._since
                if now - self._since >= self._away:
                    raise
                self._say(f"waiting for the cluster: {error.message}")
                await asyncio.sleep(_PAUSE)
                continue
            if self._since is not None:
                self.lost += time.monotonic() - self._since
                self._since = None
                self._progress({"event": "warning", "text": "the cluster answers again"})
            return answer

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning(text)
            self._progress({"event": "warning", "text": text})
