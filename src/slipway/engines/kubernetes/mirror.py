"""What of ours is in the cluster, kept up to date by watching it, so that looking at every app asks nobody."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes.objects import KINDS, Key, Object, key_of
from slipway.engines.kubernetes.observed import OURS, Observed, app_of, is_ours, sorted_out
from slipway.errors import SlipwayError, Unavailable
from slipway.kubernetes import ClusterClient

log = logging.getLogger(__name__)
_FIRST_SECONDS = 60.0
_PAUSE = 5.0


class Mirror:
    """One watch a kind. A moment behind the cluster: who finds something amiss here looks again there.

    ``changed``: the apps of which something came or went since it was emptied.
    """

    def __init__(self, client: ClusterClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._objects: dict[AppRef, dict[Key, Object]] = {}
        self._whole = {kind: asyncio.Event() for kind in KINDS}
        self._tasks: list[asyncio.Task[None]] = []
        self.changed: set[AppRef] = set()

    async def ready(self) -> None:
        """Begins to watch at the first call. Raises ``Unavailable`` while not everything was listed once."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._follow(kind)) for kind in KINDS]
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                for event in self._whole.values():
                    await event.wait()
        except TimeoutError as error:
            raise Unavailable("the cluster could not be listed yet", hint="it is tried on and on") from error

    @property
    def is_whole(self) -> bool:
        return all(event.is_set() for event in self._whole.values())

    async def aclose(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def observed(self, app: AppRef) -> Observed:
        return sorted_out(list(self._objects.get(app, {}).values()))

    async def _follow(self, kind: str) -> None:
        while True:
            try:
                await self._follow_once(kind)
            except SlipwayError as error:
                log.warning("%s cannot be watched: %s", kind, error)
            await asyncio.sleep(_PAUSE)

    async def _follow_once(self, kind: str) -> None:
        async with aclosing(self._client.watch(kind, None, OURS)) as changes:
            async for change in changes:
                if change.type == "synced":
                    self._whole[kind].set()
                elif is_ours(change.object, self._prefix):
                    self._take(kind, change.object, gone=change.type == "deleted")

    def _take(self, kind: str, obj: Object, *, gone: bool) -> None:
        app = app_of(obj)
        found = {**obj, "kind": kind, "metadata": {**obj["metadata"]}}
        found["metadata"].pop("managedFields", None)  # most of it, and nothing we look at
        mine = self._objects.setdefault(app, {})
        if gone:
            mine.pop(key_of(found), None)
            if not mine:
                del self._objects[app]
        else:
            mine[key_of(found)] = found
        self.changed.add(app)
