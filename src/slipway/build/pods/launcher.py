"""Workers as Pods of a Kubernetes cluster: started, watched, removed.

Everything a build has in a cluster is a Pod and a Secret of one name, in the namespace of its project's builds, with
labels that say whose they are: what a server that was killed left is found by them and removed by ``recover``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol

from slipway.base.ids import new_id
from slipway.build.pods import daemons, manifests
from slipway.build.pods.builder import Place, Started, admitted
from slipway.build.pods.desk import Desk
from slipway.build.pods.idle import Idle, IdleBounds
from slipway.build.pods.manifests import Site
from slipway.build.pods.pod import Pod, Tell
from slipway.build.pods.volumes import CacheVolume, Volumes
from slipway.build.solve import Reporter
from slipway.errors import Conflict, Exhausted, NotFound, SlipwayError, Unavailable
from slipway.kubernetes import ClusterClient

log = logging.getLogger(__name__)
_QUOTA_SECONDS = 3.0
_DELETE_SECONDS = 15.0
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
        self._longest_wait = bounds.seconds if bounds and bounds.count else 0.0
        self._own: set[str] = set()
        self._ready: dict[tuple[str, str, bool], Site] = {}
        self._preparing: dict[tuple[str, str, bool], asyncio.Lock] = {}
        self._volumes = Volumes()
        self._idle = Idle(bounds or IdleBounds(), self._started_idle)

    @asynccontextmanager
    async def started(self, place: Place, desk: Desk, reporter: Reporter) -> AsyncIterator[Started]:
        cluster = await self._clusters.choose(place.project, place.cluster)
        volume = self._clusters.volume
        keeps = place.keeps and volume is not None
        may_wait = place.daemon is None
        place = replace(place, cluster=cluster, keeps=keeps)
        # One that waits must not have what only one may have at a time.
        alone = keeps and volume is not None and not volume.many
        waits = replace(place, keeps=keeps and not alone)

        def tell(text: str) -> None:
            reporter.warning(text)

        waiting_one = self._idle.take(place) if may_wait and not alone else None
        if waiting_one is not None:
            async with waiting_one as pod:
                pod.tell = tell
                self._idle.wanted(waits, desk)
                yield pod
            return
        with self._volumes.given(place, volume, tell) as given:
            async with self._pod(given, desk, tell) as pod:
                if may_wait:
                    self._idle.wanted(waits, desk)
                yield pod

    @asynccontextmanager
    async def _started_idle(self, place: Place, desk: Desk) -> AsyncIterator[Pod]:
        async with self._pod(replace(place, build_id=f"idle-{new_id()}"), desk, lambda _: None) as pod:
            yield pod

    @asynccontextmanager
    async def _pod(self, place: Place, desk: Desk, tell: Tell) -> AsyncIterator[Pod]:
        client = await self._clusters.client(place.cluster)
        site = await self._prepared(place, client)
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
                removing = asyncio.create_task(_remove(client, pod.namespace, name))
                await asyncio.shield(removing)
                self._own.discard(name)
                await asyncio.gather(*watching, return_exceptions=True)

    async def _create(self, pod: Pod, site: Site, place: Place) -> None:
        """Secret and Pod; waits where the namespace's quota is used up."""
        seconds = (place.limits.seconds or 24 * 3600) + _TERM_SECONDS + self._longest_wait
        daemon = place.daemon
        image = daemon.image if daemon else ""
        if daemon is not None and daemon.kind == "dind" and not image:
            image = await self._clusters.docker_image(place.cluster)
        await _created(pod.client, manifests.secret(pod.name, site, place, pod.ticket.token))
        told = False
        while True:
            try:
                await _created(pod.client, daemons.pod(pod.name, site, place, seconds, image))
                return
            except Exhausted as error:
                if not told:
                    pod.tell(f"waiting: {error.message}")
                told = True
                await asyncio.sleep(_QUOTA_SECONDS)

    async def _prepared(self, place: Place, client: ClusterClient) -> Site:
        """Namespace and rules of the project's builds, made once for as long as this server runs, and its site."""
        docker = place.daemon is not None
        key = (place.cluster, place.project, docker)
        async with self._preparing.setdefault(key, asyncio.Lock()):
            site = await self._clusters.site(place.cluster)
            if (
                self._ready.get(key) != site
                or await client.get("Namespace", manifests.home_of(place)) is None
            ):
                for item in manifests.surroundings(site, place.project, docker=docker):
                    await client.apply(item)
                self._ready[key] = site
            if place.keeps and site.volume is not None:
                with suppress(Conflict):  # it is there
                    await client.create(manifests.claim(site, place.project, site.volume))
        return site

    async def recover(self) -> None:
        """Remove what a killed server left in any cluster; one that does not answer is tried again by nobody."""
        for cluster in await self._clusters.names():
            try:
                async with asyncio.timeout(60):
                    await self._clean(await self._clusters.client(cluster))
            except (SlipwayError, TimeoutError) as error:
                log.warning("builds left in the cluster %s could not be removed: %s", cluster, error)

    async def _clean(self, client: ClusterClient) -> None:
        chosen = {manifests.SERVER: self._mark, manifests.ROLE: manifests.WORKER}
        for kind in ("Pod", "Secret"):
            for item in (await client.list(kind, None, chosen)).items:
                metadata = item["metadata"]
                if metadata["name"] in self._own:
                    continue  # of a build that has begun meanwhile
                await client.delete(kind, metadata["name"], metadata["namespace"], uid=metadata["uid"])

    async def close(self) -> None:
        await self._idle.close()


async def _created(client: ClusterClient, item: manifests.Object) -> None:
    """Being cancelled waits for the answer: what is not there yet could not be removed."""
    creating = asyncio.create_task(client.create(item))
    try:
        await asyncio.shield(creating)
    except asyncio.CancelledError:
        await asyncio.wait({creating})
        raise


async def _remove(client: ClusterClient, namespace: str, name: str) -> None:
    """Both, with patience for an API server that is away for a moment."""

    async def gone(kind: str) -> None:
        async with asyncio.timeout(_DELETE_SECONDS):
            while True:
                try:
                    await client.delete(kind, name, namespace)
                    return
                except NotFound:
                    return
                except Unavailable:
                    await asyncio.sleep(0.5)

    found = await asyncio.gather(gone("Pod"), gone("Secret"), return_exceptions=True)
    for error in found:
        if error is not None:
            log.warning("the build's Pod %s/%s could not be removed: %s", namespace, name, error)
