"""Workers as Pods of a Kubernetes cluster: started, watched, removed.

Everything a build has in a cluster is a Pod and a Secret of one name, in the namespace of its project's builds, with
labels that say whose they are: what a server that was killed left is found by them and removed by ``recover``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from slipway.base.ids import new_id
from slipway.build.pods import daemons, manifests
from slipway.build.pods.builder import NoRoom, Place, Started, admitted
from slipway.build.pods.desk import Desk
from slipway.build.pods.homes import Homes
from slipway.build.pods.idle import COMING_SECONDS, Idle, IdleBounds
from slipway.build.pods.manifests import Site
from slipway.build.pods.patience import Tell, created, removed
from slipway.build.pods.pod import Pod
from slipway.build.pods.troubled import Troubled
from slipway.build.pods.volumes import CacheVolume, Volumes
from slipway.build.solve import Reporter
from slipway.errors import Exhausted, SlipwayError, Unavailable
from slipway.kubernetes import ClusterClient

log = logging.getLogger(__name__)
_ROOM_SECONDS = 3.0
_DELETE_SECONDS = 15.0  # for which a build waits; then its Pod is removed after its end
_AGAIN_SECONDS = 5.0
_TERM_SECONDS = 60  # beyond the build's own, so that it is the server that ends it and says why


class Clusters(Protocol):
    """Where Pods are started; the composition root knows."""

    @property
    def volume(self) -> CacheVolume | None:
        """What keeps the directories of --mount=type=cache of each project; ``None``: they end with their Pod."""
        ...

    async def choose(self, project: str, cluster: str) -> str:
        """The cluster's name: ``cluster``, or else the project's own. Raises ``Invalid`` when it has none."""
        ...

    async def client(self, cluster: str) -> ClusterClient: ...

    async def docker_image(self, cluster: str) -> str:
        """An image with a Docker daemon in it, as nodes pull it; it is made if it is not there yet."""
        ...

    async def names(self) -> Sequence[str]:
        """All clusters, for ``recover``."""
        ...

    async def site(self, cluster: str) -> Site:
        """What build Pods have in common there; the worker's image is made if it is not there yet."""
        ...


class KubernetesLauncher:
    """``Launcher`` on clusters. ``mark`` tells this server's objects from another's."""

    def __init__(self, clusters: Clusters, mark: str, bounds: IdleBounds | None = None) -> None:
        self._clusters = clusters
        self._mark = mark
        self._longest_wait = bounds.seconds + COMING_SECONDS if bounds and bounds.count else 0.0
        self._own: set[str] = set()
        self._homes = Homes(clusters)
        self._removing: set[asyncio.Task[None]] = set()
        self._volumes = Volumes()
        self._troubled = Troubled()
        self._idle = Idle(bounds or IdleBounds(), self._started_idle)

    @asynccontextmanager
    async def started(self, place: Place, desk: Desk, reporter: Reporter) -> AsyncIterator[Started]:
        cluster = await self._clusters.choose(place.project, place.cluster)
        volume = self._clusters.volume
        # One that waits must not have what only one may have at a time: nobody waits for builds that need it.
        alone = place.keeps and volume is not None and not volume.many
        may_wait = place.daemon is None and not alone
        place = replace(place, cluster=cluster, keeps=place.keeps and volume is not None)

        def tell(text: str) -> None:
            reporter.warning(text)

        waiting_one = self._idle.take(place) if may_wait else None
        if waiting_one is not None:
            async with waiting_one as pod:
                pod.tell = tell
                self._idle.wanted(place, desk)
                with self._troubled.noting(pod):
                    yield pod
            return
        without: list[str] = []  # told when there is room: it is looked for again and again
        with self._volumes.given(place, volume, without.append) as given:
            try:
                async with self._pod(given, desk, tell, without.append, begins=place.attempt == 1) as pod:
                    for text in without:
                        tell(text)
                    seating = asyncio.create_task(self._seating(pod, place if may_wait else None, desk))
                    try:
                        with self._troubled.noting(pod):
                            yield pod
                    finally:
                        seating.cancel()
            except NoRoom:
                if place.daemon is None:  # whose Pods have another namespace, with a quota of its own
                    self._idle.give_way(cluster, place.project)
                raise

    async def _seating(self, pod: Pod, kind: Place | None, desk: Desk) -> None:
        """Workers that wait give way to a build that no node takes. When it has its own, others may begin to wait."""
        while not pod.ticket.seat.done():
            await asyncio.wait({pod.ticket.seat}, timeout=_ROOM_SECONDS)
            if not pod.node and not pod.ticket.seat.done():
                self._idle.give_way(pod.cluster)
        if kind is not None:
            self._idle.wanted(kind, desk)

    @asynccontextmanager
    async def _started_idle(self, place: Place, desk: Desk) -> AsyncIterator[Pod]:
        place = replace(place, build_id=f"idle-{new_id()}")
        async with self._pod(place, desk, _unsaid, _unsaid, begins=False) as pod:
            with self._troubled.noting(pod):
                yield pod

    @asynccontextmanager
    async def _pod(
        self, place: Place, desk: Desk, tell: Tell, lacks: Tell, *, begins: bool
    ) -> AsyncIterator[Pod]:
        """``begins``: it is the first of a build. ``lacks`` is told what it has to do without."""
        client = await self._clusters.client(place.cluster)
        site, place = await self._homes.prepared(place, client, tell, lacks, makes=begins)
        place = replace(place, avoid=place.avoid | self._troubled.of(place.cluster))
        name = f"build-{place.build_id}-{new_id(6)}"
        self._own.add(name)
        async with admitted(desk) as ticket:
            pod = Pod(client, name, manifests.home_of(place), ticket, place.cluster, tell)
            pod.labels = manifests.labels(site, place)
            pod.has_volume = place.keeps
            watching: list[asyncio.Task[None]] = []
            try:
                await self._create(pod, site, place)
                watching = [asyncio.create_task(pod.watch()), asyncio.create_task(pod.explain())]
                yield pod
            finally:
                for task in watching:
                    task.cancel()
                removing = asyncio.create_task(self._remove(pod))
                self._removing.add(removing)
                removing.add_done_callback(self._removing.discard)
                await asyncio.wait({removing, *watching}, timeout=_DELETE_SECONDS)

    async def _remove(self, pod: Pod) -> None:
        try:
            await removed(pod.client, pod.namespace, pod.name)
        finally:
            self._own.discard(pod.name)

    async def _create(self, pod: Pod, site: Site, place: Place) -> None:
        """Secret and Pod. Raises ``NoRoom`` when the namespace's quota is used up."""
        seconds = (place.limits.seconds or 24 * 3600) + _TERM_SECONDS + self._longest_wait
        daemon = place.daemon
        image = daemon.image if daemon else ""
        if daemon is not None and daemon.kind == "dind" and not image:
            image = await self._clusters.docker_image(place.cluster)
        try:
            await created(pod.client, manifests.secret(pod.name, site, place, pod.ticket.token), pod.tell)
            await created(pod.client, daemons.pod(pod.name, site, place, seconds, image), pod.tell)
        except Exhausted as error:
            raise NoRoom(error.message, hint=error.hint) from error

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


def _unsaid(_: str) -> None:
    """There is no build yet whose log would say it."""
