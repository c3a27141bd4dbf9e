"""Whether clusters answer, and for how long one that does not has been away."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from slipway.base.clock import now
from slipway.errors import SlipwayError
from slipway.fleet.clusters import Clusters
from slipway.fleet.nodes import NodeFacts
from slipway.fleet.records import ClusterDetail
from slipway.kubernetes import ClusterClient

log = logging.getLogger(__name__)
_LONGEST_LOOK = 5.0


@dataclass(frozen=True, slots=True)
class Health:
    """``well``: at the last look its API server answered and a node was ready. ``since``: when it was last so, if not.

    ``failed``: for longer than the grace, as far as any server of the platform has seen. ``reason``: what is wrong.
    """

    well: bool
    since: datetime | None = None
    failed: bool = False
    reason: str = ""


class ClusterWatch:
    """Looks at every cluster, several times within the grace, by one small request.

    When a cluster was last well is shared in the database, so that servers agree on which has failed: it has for none
    as long as one of them reaches it.
    """

    def __init__(self, clusters: Clusters, away_seconds: float) -> None:
        """``away_seconds``: how long a cluster may be away until it counts as failed."""
        self._clusters = clusters
        self._grace = timedelta(seconds=away_seconds)
        self._pause = min(10.0, away_seconds / 6)
        self._began = now()
        self._health: dict[str, Health] = {}
        self._nodes: dict[str, str] = {}
        clusters.on_added.append(self._added)

    def _added(self, cluster: ClusterDetail) -> None:
        """It has just been looked at."""
        if any(node.ready for node in cluster.nodes):
            self._health[cluster.record.name] = Health(True)

    def health(self, name: str) -> Health:
        return self._health.get(name) or Health(False, self._began, reason="it was not looked at yet")

    async def run_forever(self) -> None:
        while True:
            try:
                await self.look()
            except SlipwayError as error:
                log.warning("the clusters could not be looked at: %s", error)
            await asyncio.sleep(self._pause)

    async def look(self) -> None:
        """Once at each; they hold each other up by no more than the longest look."""
        names = await self._clusters.names()
        for gone in self._health.keys() - names:
            del self._health[gone]
        await asyncio.gather(*(self._look_at(name) for name in names))

    async def _look_at(self, name: str) -> None:
        before = self._health.get(name)
        try:
            async with asyncio.timeout(min(_LONGEST_LOOK, max(1.0, self._grace.total_seconds() / 2))):
                reason = await self._ask(name)
        except TimeoutError:
            reason = "its API server does not answer"
        except SlipwayError as error:
            reason = error.message
        if not reason:
            await self._clusters.was_seen(name)
            self._say(name, before, Health(True))
            return
        # What was not seen since before this server began may only not have been looked at.
        since = max(self._began, await self._clusters.seen(name) or self._began)
        self._say(name, before, Health(False, since, now() - since >= self._grace, reason))

    async def _ask(self, name: str) -> str:
        """What is wrong, if anything. The node that was ready last is looked at first: there may be many."""
        client = await self._clusters.client(name)
        known = self._nodes.get(name)
        if known is not None:
            found = await client.get("Node", known)
            if found is not None and NodeFacts.of(found).ready:
                return ""
        return await self._find_ready(client, name)

    async def _find_ready(self, client: ClusterClient, name: str) -> str:
        nodes = [NodeFacts.of(item) for item in (await client.list("Node")).items]
        ready = next((node.name for node in nodes if node.ready), None)
        if ready is None:
            self._nodes.pop(name, None)
            return f"none of its {len(nodes)} nodes is ready" if nodes else "it has no nodes"
        self._nodes[name] = ready
        return ""

    def _say(self, name: str, before: Health | None, health: Health) -> None:
        self._health[name] = health
        if before is not None and replace(before, reason="", since=None) == replace(
            health, reason="", since=None
        ):
            return
        if health.failed:
            log.warning("the cluster %s has been away since %s: %s", name, health.since, health.reason)
        elif not health.well:
            log.warning("the cluster %s does not do well: %s", name, health.reason)
        elif before is not None:
            log.info("the cluster %s is well again", name)
