"""What of ours is in the cluster, kept up to date by watching it, so that looking at every app asks nobody."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes.objects import CLAIM, KINDS, Key, Object, by_key, key_of
from slipway.engines.kubernetes.observed import OURS, Observed, app_of, is_ours, sorted_out
from slipway.errors import Interrupted, SlipwayError, Unavailable
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

    def namespaces(self) -> set[str]:
        """Where there is more of an app than the volumes it left."""
        return {key.namespace for mine in self._objects.values() for key in mine if key.kind != CLAIM}

    async def _follow(self, kind: str) -> None:
        while True:
            try:
                await self._follow_once(kind)
            except Interrupted:
                return  # the client was closed, and never opens again
            except SlipwayError as error:
                log.warning("%s cannot be watched: %s", kind, error)
            await asyncio.sleep(_PAUSE)

    async def _follow_once(self, kind: str) -> None:
        """A watch knows nothing of what one before it told: what its first listing lacks went in between."""
        before = [item for mine in self._objects.values() for key, item in mine.items() if key.kind == kind]
        missed = by_key(before)
        async with aclosing(self._client.watch(kind, None, OURS)) as changes:
            async for change in changes:
                if change.type == "synced":
                    for item in missed.values():
                        self._drop(item)
                    missed = {}
                    self._whole[kind].set()
                elif is_ours(change.object, self._prefix):
                    found = {**change.object, "kind": kind}
                    missed.pop(key_of(found), None)
                    if change.type == "deleted":
                        self._drop(found)
                    else:
                        self._keep(found)

    def _keep(self, obj: Object) -> None:
        metadata = {**obj["metadata"]}
        metadata.pop("managedFields", None)  # most of it, and nothing we look at
        self._objects.setdefault(app_of(obj), {})[key_of(obj)] = {**obj, "metadata": metadata}
        self.changed.add(app_of(obj))

    def _drop(self, obj: Object) -> None:
        app = app_of(obj)
        mine = self._objects.get(app, {})
        mine.pop(key_of(obj), None)
        if not mine:
            self._objects.pop(app, None)
        self.changed.add(app)
