"""One Pod with its worker, from its creation to its end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from slipway.build.pods import manifests, waiting
from slipway.build.pods.desk import Seat, Ticket, WorkerLost
from slipway.build.pods.patience import Tell
from slipway.build.pods.starting import Start
from slipway.errors import SlipwayError
from slipway.kubernetes import ClusterClient

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
    has_volume: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _said: set[str] = field(default_factory=set)
    _start: Start = field(default_factory=Start)

    @property
    def node(self) -> str:
        return self._start.node

    async def seat(self) -> Seat:
        """When the worker has come in. Raises what ended the Pod before."""
        either: set[asyncio.Future[Any]] = {self.ticket.seat, self.over}
        limit = _VOLUME_SECONDS if self.has_volume else None
        while not (await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED))[0]:
            if not self._start.goes_on:
                raise WorkerLost(f"the Pod with the project's volume has not come within {limit:.0f} s")
        if not self.ticket.seat.done():
            self.over.result()
        seat = self.ticket.seat.result()
        if seat.is_lost:
            raise WorkerLost("the worker left before it had a build")
        return seat

    async def ended(self) -> None:
        await asyncio.shield(self.over)

    async def watch(self) -> None:
        """Follow the Pod's status until it has ended; ``over`` then says why. Ends by being cancelled.

        The Pod was made before: a listing that lacks it says that it is gone, also where its end was never told.
        """
        try:
            chosen = {manifests.BUILD: self.labels[manifests.BUILD]}
            is_there = False
            async with aclosing(self.client.watch("Pod", self.namespace, chosen)) as changes:
                async for change in changes:
                    if change.object.get("metadata", {}).get("name") == self.name:
                        is_there = change.type != "deleted"
                    elif change.type != "synced":
                        continue
                    if not is_there:
                        raise WorkerLost("the Pod is gone" + (f" from {self.node}" if self.node else ""))
                    if change.object:
                        self._look(change.object)
        except SlipwayError as error:
            self._end(error)

    async def explain(self) -> None:
        """Tell what is in the way of its start, which only events say, and end what is stuck, until the worker has
        come in."""
        chosen = f"involvedObject.name={self.name}"
        while not self.ticket.seat.done() and not self.over.done():
            await asyncio.sleep(_EVENTS_SECONDS)
            if not self.node:
                continue
            heard = False
            with suppress(SlipwayError):  # the next time, or whoever watches
                events = (await self.client.list("Event", self.namespace, None, chosen)).items
                for text in self._start.hear(events, _now()):
                    self._say(text)
                for error in filter(None, (waiting.unmountable(event, self.node) for event in events)):
                    self._end(error)
                heard = True
            stuck = self._start.stuck(_now(), heard=heard)
            if stuck is not None:
                self._end(stuck)

    def _end(self, error: SlipwayError) -> None:
        if not self.over.done():
            self.over.set_exception(error)
            self.over.exception()  # it may be that nobody waits

    def _look(self, pod: dict[str, Any]) -> None:
        """Raises what ended it."""
        self._start.look(pod, _now())
        ended = waiting.ended_by(pod)
        if ended is not None:
            raise ended
        self._say(waiting.waits_for(pod))

    def _say(self, text: str) -> None:
        """Each reason once: ``back-off`` messages count seconds, so what precedes that is compared."""
        head = text.partition(":")[0]
        if text and head not in self._said:
            self._said.add(head)
            self.tell(f"waiting: {text}")


def _now() -> float:
    return asyncio.get_running_loop().time()
