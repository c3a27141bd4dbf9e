"""Which engine runs a project's apps: this machine's, or that of a cluster the project is bound to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol

from slipway.access import Access, Role
from slipway.app.settings import Settings
from slipway.base.clock import now
from slipway.base.ids import new_id
from slipway.delivery import AppRef, Engine, Wanted
from slipway.engines.kubernetes import (
    KubernetesEngine,
    PullLogin,
    Setting,
    manifests,
    namespace_manifest,
)
from slipway.engines.kubernetes.names import namespace_name
from slipway.kubernetes import ClusterClient

PULL_LIFETIME = timedelta(hours=24)
_ROBOT = "pull-"


class Bound(Protocol):
    """A project's cluster, and how much of its work it gets."""

    @property
    def cluster(self) -> str: ...

    @property
    def weight(self) -> int: ...


class BoundClusters(Protocol):
    """What is asked of ``slipway.fleet``'s clusters."""

    async def of(self, project: str) -> Sequence[Bound]: ...

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


class Engines:
    """``engine_of`` for a ``Deliverer``: one engine for each cluster, whichever projects use it."""

    def __init__(
        self, embedded: Engine, access: Access, setting: Setting, clusters: BoundClusters | None = None
    ) -> None:
        self._embedded = embedded
        self._pulls = RobotPulls(access)
        self._setting = setting
        self._clusters = clusters
        self._made: dict[str, tuple[ClusterClient, KubernetesEngine]] = {}

    async def of(self, project: str) -> Engine:
        """Of several clusters the one with the greatest weight, the first by name of equal ones: so far apps are not
        spread, and changing weights does not move what runs."""
        bound = await self._clusters.of(project) if self._clusters is not None else ()
        used = sorted(
            (item for item in bound if item.weight > 0), key=lambda item: (-item.weight, item.cluster)
        )
        if self._clusters is None or not used:
            return self._embedded
        name = used[0].cluster
        client = await self._clusters.client(name)
        known = self._made.get(name)
        if known is None or known[0] is not client:
            if known is not None:
                await known[1].aclose()
            known = self._made[name] = (client, KubernetesEngine(client, self._setting, self._pulls))
        return known[1]

    async def aclose(self) -> None:
        made, self._made = self._made, {}
        for _, engine in made.values():
            await engine.aclose()


def cluster_setting(settings: Settings) -> Setting:
    """A cluster's nodes pull from this server, unless the settings say where else."""
    return Setting(settings["kubernetes.registry"] or settings["listen"], settings["apps.domain"])


def renderer(setting: Setting) -> Callable[[AppRef, Wanted], list[dict[str, Any]]]:
    """The manifests of an app that runs elsewhere, as a cluster would get them."""

    def render(app: AppRef, wanted: Wanted) -> list[dict[str, Any]]:
        namespace = namespace_name(setting.prefix, app.project)
        return [namespace_manifest(app.project, namespace), *manifests(app, wanted, setting)]

    return render
