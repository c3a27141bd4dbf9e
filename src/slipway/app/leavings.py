"""What a project that is removed leaves behind, here and on clusters: nobody inherits it with the name.

Apps' volumes are never removed for it: who removes a project with some is told of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from slipway.base.trees import remove_tree
from slipway.build.cache_mounts import CacheMounts
from slipway.build.pods.leavings import remove_builds
from slipway.engines.embedded import volumes_of
from slipway.engines.kubernetes.leavings import check_volumes, remove_pull_secrets
from slipway.errors import Conflict, SlipwayError, Unavailable
from slipway.fleet import ClusterRecord, Clusters
from slipway.kubernetes import ClusterClient

log = logging.getLogger(__name__)
_SECONDS = 20.0


class LeavingsHere:
    """``volumes`` is the directory of the apps' volumes of this machine."""

    def __init__(self, volumes: Path, cache_mounts: CacheMounts) -> None:
        self._volumes = volumes
        self._cache_mounts = cache_mounts

    async def remove(self, project: str) -> None:
        """Before the project itself goes. Idempotent. Raises ``Conflict`` where volumes are left or a build runs."""
        left = sorted(path.name for path in volumes_of(self._volumes, project))
        if left:
            raise Conflict(
                f"volumes of apps that were removed are left: {', '.join(left)}",
                hint=f"they go with rm -r {self._volumes}/{project}_*, on the server",
            )
        # What a volume was to begin with, where that was cut off.
        for copy in self._volumes.glob(f".{project}_*"):
            await asyncio.to_thread(remove_tree, copy)
        await self._cache_mounts.remove_all(project)


class LeavingsOnClusters:
    """``mark`` tells this server's builds from another's."""

    def __init__(self, clusters: Clusters, mark: str) -> None:
        self._clusters = clusters
        self._mark = mark

    async def remove(self, project: str) -> None:
        """Before the project itself goes. Idempotent.

        Raises ``Conflict`` where such are left, and ``Unavailable`` for a cluster of the project that does not answer;
        of others, which a build may have asked for by name, the log says it.
        """

        async def check(client: ClusterClient, prefix: str) -> None:
            await check_volumes(client, prefix, project)

        async def clear(client: ClusterClient, prefix: str) -> None:
            await remove_builds(client, project, self._mark)
            await remove_pull_secrets(client, prefix, project)

        used = {item.cluster for item in await self._clusters.of(project)}
        records = await self._clusters.all()
        for work in (check, clear):
            await asyncio.gather(
                *(self._at(record, project, record.name in used, work) for record in records)
            )

    async def _at(
        self, record: ClusterRecord, project: str, used: bool,
        work: Callable[[ClusterClient, str], Awaitable[None]],
    ) -> None:  # fmt: skip
        name = record.name
        try:
            async with asyncio.timeout(_SECONDS):
                await work(await self._clusters.client(name), record.prefix)
        except Conflict as error:
            raise Conflict(f"on the cluster {name} {error.message}", hint=error.hint) from error
        except (SlipwayError, TimeoutError) as error:
            said = error.message if isinstance(error, SlipwayError) else f"no answer within {_SECONDS:g} s"
            if used:
                bound = any(item.project == project for item in record.bindings)
                instead = f"cluster unbind {name} --project {project}" if bound else f"cluster rm {name}"
                raise Unavailable(
                    f"what {project} has left on the cluster {name} could not be removed: {said}",
                    hint="try again when it answers; or leave it there, for the next project of this name: "
                    f"slipway {instead}",
                ) from error
            log.warning("what %s has left on the cluster %s could not be removed: %s", project, name, said)
