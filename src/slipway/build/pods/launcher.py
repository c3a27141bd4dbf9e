"""Workers as Pods of a Kubernetes cluster: started, watched, removed.

Everything a build has in a cluster is a Pod and a Secret of one name, in the namespace of its project's builds, with
labels that say whose they are: what a server that was killed left is found by them and removed by ``recover``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from slipway.base.ids import new_id
from slipway.build.pods import manifests, waiting
from slipway.build.pods.builder import Place, Started, admitted
from slipway.build.pods.desk import Desk, Seat, Ticket, WorkerLost
from slipway.build.pods.idle import Idle, IdleBounds
from slipway.build.pods.manifests import Site, namespace_of
from slipway.build.pods.patience import Tell, created, patiently, removed
from slipway.build.solve import Reporter
from slipway.errors import Exhausted, Failed, SlipwayError, Unavailable
from slipway.kubernetes import ClusterClient

log = logging.getLogger(__name__)
_PULL_SECONDS = 30.0
_QUOTA_SECONDS = 3.0
_DELETE_SECONDS = 15.0  # for which a build waits; then its Pod is removed after its end
_AGAIN_SECONDS = 5.0
_TERM_SECONDS = 60  # beyond the build's own, so that it is the server that ends it and says why


class Clusters(Protocol):
    """Where Pods are started; the composition root knows."""

    async def choose(self, project: str, cluster: str) -> str:
        """The cluster's name: ``cluster``, or else the project's own. Raises ``Invalid`` when it has none."""
        ...

    async def client(self, cluster: str) -> ClusterClient: ...

    async def names(self) -> Sequence[str]:
        """All clusters, for ``recover``."""
        ...

    async def site(self, cluster: str) -> Site:
        """What build Pods have in common there; the worker's image is made if it is not there yet."""
        ...


@dataclass(slots=True)
class Pod:
    """One Pod with its worker, from its creation to its end."""

    client: ClusterClient
    name: str
    namespace: str
    ticket: Ticket
    cluster: str
    tell: Tell
    node: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _said: str = ""
    _unpullable_since: float = 0.0

    async def seat(self) -> Seat:
        seat = await asyncio.shield(self.ticket.seat)
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


class KubernetesLauncher:
    """``Launcher`` on clusters. ``mark`` tells this server's objects from another's."""

    def __init__(self, clusters: Clusters, mark: str, bounds: IdleBounds | None = None) -> None:
        self._clusters = clusters
        self._mark = mark
        self._longest_wait = bounds.seconds if bounds and bounds.count else 0.0
        self._own: set[str] = set()
        self._preparing: dict[tuple[str, str], asyncio.Lock] = {}
        self._removing: set[asyncio.Task[None]] = set()
        self._idle = Idle(bounds or IdleBounds(), self._started_idle)

    @asynccontextmanager
    async def started(self, place: Place, desk: Desk, reporter: Reporter) -> AsyncIterator[Started]:
        cluster = await self._clusters.choose(place.project, place.cluster)
        place = replace(place, cluster=cluster)

        def tell(text: str) -> None:
            reporter.warning(text)

        waiting_one = self._idle.take(place)
        if waiting_one is not None:
            async with waiting_one as pod:
                pod.tell = tell
                self._idle.wanted(place, desk)
                yield pod
            return
        async with self._pod(place, desk, tell) as pod:
            self._idle.wanted(place, desk)
            yield pod

    @asynccontextmanager
    async def _started_idle(self, place: Place, desk: Desk) -> AsyncIterator[Pod]:
        async with self._pod(replace(place, build_id=f"idle-{new_id()}"), desk, lambda _: None) as pod:
            yield pod

    @asynccontextmanager
    async def _pod(self, place: Place, desk: Desk, tell: Tell) -> AsyncIterator[Pod]:
        client = await self._clusters.client(place.cluster)
        site = await self._prepared(place, client, tell)
        name = f"build-{place.build_id}-{new_id(6)}"
        self._own.add(name)
        async with admitted(desk) as ticket:
            pod = Pod(client, name, namespace_of(place.project), ticket, place.cluster, tell)
            pod.labels = manifests.labels(site, place)
            watching: asyncio.Task[None] | None = None
            try:
                await self._create(pod, site, place)
                watching = asyncio.create_task(pod.watch())
                yield pod
            finally:
                if watching is not None:
                    watching.cancel()
                removing = asyncio.create_task(self._remove(pod))
                self._removing.add(removing)
                removing.add_done_callback(self._removing.discard)
                await asyncio.wait({removing, *([watching] if watching else [])}, timeout=_DELETE_SECONDS)

    async def _remove(self, pod: Pod) -> None:
        try:
            await removed(pod.client, pod.namespace, pod.name)
        finally:
            self._own.discard(pod.name)

    async def _create(self, pod: Pod, site: Site, place: Place) -> None:
        """Secret and Pod; waits where the namespace's quota is used up."""
        seconds = (place.limits.seconds or 24 * 3600) + _TERM_SECONDS + self._longest_wait
        await created(pod.client, manifests.secret(pod.name, site, place, pod.ticket.token), pod.tell)
        told = False
        while True:
            try:
                await created(pod.client, manifests.pod(pod.name, site, place, seconds), pod.tell)
                return
            except Exhausted as error:
                if not told:
                    pod.tell(f"waiting: {error.message}")
                told = True
                await asyncio.sleep(_QUOTA_SECONDS)

    async def _prepared(self, place: Place, client: ClusterClient, tell: Tell) -> Site:
        """The site, after the namespace of the project's builds and its rules are what they should be.

        Looked at before each build, since one whose rules somebody changed would be cut off, or let out.
        """
        name = namespace_of(place.project)
        async with self._preparing.setdefault((place.cluster, name), asyncio.Lock()):
            if await patiently(lambda: client.get("Namespace", name), tell) is None:
                await patiently(lambda: client.apply(manifests.namespace(place.project)), tell)
            site = await self._clusters.site(place.cluster)
            for item in manifests.policies(site, place.project):
                await patiently(partial(client.apply, item), tell)
        return site

    async def recover(self) -> None:
        """Remove what a killed server left in any cluster; one that is away is waited for."""
        for cluster in await self._clusters.names():
            cleaning = asyncio.create_task(self._cleaned(cluster))
            self._removing.add(cleaning)
            cleaning.add_done_callback(self._removing.discard)

    async def _cleaned(self, cluster: str) -> None:
        told = False
        while True:
            try:
                async with asyncio.timeout(60):
                    await self._clean(await self._clusters.client(cluster))
                return
            except (Unavailable, TimeoutError) as error:
                if not told:
                    log.warning("builds left in the cluster %s cannot be removed yet: %s", cluster, error)
                told = True
                await asyncio.sleep(_AGAIN_SECONDS)
            except SlipwayError as error:
                log.warning("builds left in the cluster %s could not be removed: %s", cluster, error)
                return

    async def _clean(self, client: ClusterClient) -> None:
        chosen = {manifests.SERVER: self._mark, manifests.ROLE: manifests.WORKER}
        for kind in ("Pod", "Secret"):
            for item in (await client.list(kind, None, chosen)).items:
                metadata = item["metadata"]
                if metadata["name"] in self._own:
                    continue  # of a build that has begun meanwhile
                await client.delete(kind, metadata["name"], metadata["namespace"], uid=metadata["uid"])

    async def close(self) -> None:
        """What is being removed from a cluster that is away is left to the next ``recover``."""
        await self._idle.close()
        for task in self._removing:
            task.cancel()
        await asyncio.gather(*self._removing, return_exceptions=True)
