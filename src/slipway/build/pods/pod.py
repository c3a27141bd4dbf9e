"""One Pod with its worker, from its creation to its end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from slipway.build.pods import manifests, waiting
from slipway.build.pods.desk import Seat, Ticket, WorkerLost
from slipway.build.pods.patience import Tell
from slipway.errors import Failed, SlipwayError
from slipway.kubernetes import ClusterClient

_PULL_SECONDS = 30.0
_VOLUME_SECONDS = 90.0
_EVENTS_SECONDS = 3.0


@dataclass(slots=True)
class Pod:
    """``tell`` is given what it waits for. ``over`` is done when it has ended, with the reason."""

    client: ClusterClient
    name: str
    namespace: str
    ticket: Ticket
    cluster: str
    tell: Tell
    node: str = ""
    has_volume: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _said: str = ""
    _unpullable_since: float = 0.0

    async def seat(self) -> Seat:
        try:
            async with asyncio.timeout(_VOLUME_SECONDS if self.has_volume else None):
                seat = await asyncio.shield(self.ticket.seat)
        except TimeoutError as error:
            raise WorkerLost(
                f"the Pod with the project's volume has not come within {_VOLUME_SECONDS:.0f} s"
            ) from error
        if seat.is_lost:
            raise WorkerLost("the worker left before it had a build")
        return seat

    async def ended(self) -> None:
        await asyncio.shield(self.over)

    async def watch(self) -> None:
        """Follow the Pod's status until it has ended; ``over`` then says why. Ends by being cancelled."""
        try:
            chosen = {manifests.BUILD: self.labels[manifests.BUILD]}
            async with aclosing(self.client.watch("Pod", self.namespace, chosen)) as changes:
                async for change in changes:
                    if change.object.get("metadata", {}).get("name") == self.name:
                        if change.type == "deleted":
                            raise WorkerLost("the Pod is gone" + (f" from {self.node}" if self.node else ""))
                        self._look(change.object)
        except SlipwayError as error:
            if not self.over.done():
                self.over.set_exception(error)
                self.over.exception()

    async def explain(self) -> None:
        """Tell what keeps its volumes from being mounted, which no status says, until the worker has come in."""
        chosen = f"involvedObject.name={self.name}"
        while not self.ticket.seat.done() and not self.over.done():
            await asyncio.sleep(_EVENTS_SECONDS)
            with suppress(SlipwayError):  # the next time, or whoever watches
                for event in (await self.client.list("Event", self.namespace, None, chosen)).items:
                    error = waiting.unmountable(event, self.node)
                    if error is not None and not self.over.done():
                        self.over.set_exception(error)
                        self.over.exception()
                    elif event.get("reason") in ("FailedMount", "FailedAttachVolume"):
                        self._say(f"{event['reason']}: {event.get('message', '')}")

    def _look(self, pod: dict[str, Any]) -> None:
        """Raises what ended it, or what will never be better."""
        self.node = waiting.node_of(pod) or self.node
        ended = waiting.ended_by(pod)
        if ended is not None:
            raise ended
        self._say(waiting.waits_for(pod))
        if not waiting.is_unpullable(pod):
            self._unpullable_since = 0.0
            return
        now = asyncio.get_running_loop().time()
        self._unpullable_since = self._unpullable_since or now
        if now - self._unpullable_since > _PULL_SECONDS:
            raise Failed(
                waiting.waits_for(pod),
                hint="the nodes must reach this server's registry: see docs/builders.md",
            )

    def _say(self, text: str) -> None:
        """Each reason once: ``back-off`` messages count seconds, so what precedes that is compared."""
        head = text.partition(":")[0]
        if text and head != self._said:
            self._said = head
            self.tell(f"waiting: {text}")
