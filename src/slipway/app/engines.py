"""Which engine runs a project's apps: this machine's, or the one over the clusters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from slipway.access import Access, Role
from slipway.app.settings import Settings
from slipway.base.clock import now
from slipway.base.ids import new_id
from slipway.delivery import AppRef, Engine, Placements, Wanted
from slipway.engines.kubernetes import (
    KubernetesEngine,
    PullLogin,
    PullLogins,
    Setting,
    manifests,
    namespace_manifest,
    refusals,
    urls,
)
from slipway.engines.kubernetes.names import namespace_name
from slipway.engines.spread import Spread
from slipway.fleet import Binding, ClusterRecord, Health
from slipway.kubernetes import ClusterClient
from slipway.state import Database

PULL_LIFETIME = timedelta(hours=24)
_ROBOT = "pull-"


class KnownClusters(Protocol):
    """What is asked of ``slipway.fleet``'s clusters."""

    on_closing: list[Callable[[str], Awaitable[None]]]

    async def of(self, project: str) -> Sequence[Binding]: ...

    async def bound(self) -> Mapping[str, Mapping[str, int]]: ...

    async def get(self, name: str) -> ClusterRecord: ...

    async def client(self, name: str) -> ClusterClient: ...


class RobotPulls:
    """Logins of Pods' nodes: robots of a day that may pull what a guest of the project may."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def issue(self, project: str) -> PullLogin:
        for robot in await self._access.robots(project):
            if robot.name.startswith(_ROBOT) and robot.expires is not None and robot.expires < now():
                await self._access.delete_robot(project, robot.name)
        name = f"{_ROBOT}{new_id().lower()}"[:40]
        user, secret, expires = await self._access.create_robot(project, name, Role.GUEST, PULL_LIFETIME)
        assert expires is not None
        return PullLogin(user, secret, expires)


class ClusterEngines:
    """``Members`` of the spread engine: an engine for each cluster, made when it is first asked for."""

    def __init__(
        self, clusters: KnownClusters, health: Callable[[str], Health], pulls: PullLogins, setting: Setting
    ) -> None:
        self._clusters = clusters
        self._pulls = pulls
        self._setting = setting
        self._health = health
        self._made: dict[str, tuple[ClusterClient, KubernetesEngine]] = {}
        clusters.on_closing.append(self._forget)

    async def engine(self, cluster: str) -> Engine:
        client = await self._clusters.client(cluster)
        known = self._made.get(cluster)
        if known is None or known[0] is not client:
            setting = replace(self._setting, prefix=(await self._clusters.get(cluster)).prefix)
            known = self._made.get(cluster)  # somebody else may have made it meanwhile
        if known is None or known[0] is not client:
            old, known = known, (client, KubernetesEngine(client, setting, self._pulls))
            self._made[cluster] = known
            if old is not None:
                await old[1].aclose()
        return known[1]

    async def _forget(self, cluster: str) -> None:
        """Its engine watches nothing any more."""
        known = self._made.pop(cluster, None)
        if known is not None:
            await known[1].aclose()

    async def weights(self, project: str) -> Mapping[str, int]:
        return {item.cluster: item.weight for item in await self._clusters.of(project)}

    async def all_weights(self) -> Mapping[str, Mapping[str, int]]:
        return await self._clusters.bound()

    def health(self, cluster: str) -> Health:
        return self._health(cluster)

    async def aclose(self) -> None:
        made, self._made = self._made, {}
        for _, engine in made.values():
            await engine.aclose()


class Engines:
    """``engine_of`` for a ``Deliverer``: this machine's, or the one over all clusters."""

    def __init__(
        self, embedded: Engine, members: ClusterEngines, placements: Placements, spread: Spread
    ) -> None:
        self._embedded = embedded
        self._members = members
        self._placements = placements
        self._spread = spread

    async def of(self, project: str) -> Engine:
        """Apps that are on clusters stay the clusters' as long as they are, whatever the project is bound to now."""
        weights = await self._members.weights(project)
        if any(weights.values()) or await self._placements.any_in(project):
            return self._spread
        return self._embedded

    async def aclose(self) -> None:
        await self._spread.aclose()
        await self._members.aclose()


def open_engines(
    embedded: Engine, access: Access, setting: Setting, clusters: KnownClusters, database: Database,
    health: Callable[[str], Health], away_seconds: float,
) -> Engines:  # fmt: skip
    members = ClusterEngines(clusters, health, RobotPulls(access), setting)
    placements = Placements(database)
    spread = Spread(members, placements, refusals, partial(urls, setting=setting), away_seconds)
    return Engines(embedded, members, placements, spread)


def cluster_setting(settings: Settings) -> Setting:
    """A cluster's nodes pull from this server, unless the settings say where else."""
    return Setting(settings["kubernetes.registry"] or settings["listen"], settings["apps.domain"])


def renderer(setting: Setting) -> Callable[[AppRef, Wanted], list[dict[str, Any]]]:
    """The manifests of an app that runs elsewhere, as a cluster would get them."""

    def render(app: AppRef, wanted: Wanted) -> list[dict[str, Any]]:
        namespace = namespace_name(setting.prefix, app.project)
        return [namespace_manifest(app.project, namespace), *manifests(app, wanted, setting)]

    return render
