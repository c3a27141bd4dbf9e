"""Which kinds of object a cluster serves, in which versions: asked, never guessed.

Kinds moved between versions over the years (PodDisruptionBudget, CronJob, HorizontalPodAutoscaler, EndpointSlice);
what a cluster does not serve in the wanted version is used in the best one it has.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from slipway.errors import NotFound, SlipwayError, Unavailable, Unsupported
from slipway.kubernetes.transport import Transport

_VERSION = re.compile(r"v(\d{1,6})(?:(alpha|beta)(\d{1,6}))?")
# Where well-known kinds live, so that finding one asks about its own group only.
_HOME = {
    kind: group
    for group, kinds in {
        "": "Pod Service Secret ConfigMap Namespace Node PersistentVolumeClaim PersistentVolume ServiceAccount "
        "Endpoints Event ResourceQuota LimitRange ReplicationController",
        "apps": "Deployment StatefulSet DaemonSet ReplicaSet",
        "batch": "Job CronJob",
        "networking.k8s.io": "Ingress IngressClass NetworkPolicy",
        "autoscaling": "HorizontalPodAutoscaler",
        "policy": "PodDisruptionBudget",
        "discovery.k8s.io": "EndpointSlice",
        "coordination.k8s.io": "Lease",
        "rbac.authorization.k8s.io": "Role RoleBinding ClusterRole ClusterRoleBinding",
        "storage.k8s.io": "StorageClass",
        "scheduling.k8s.io": "PriorityClass",
        "apiextensions.k8s.io": "CustomResourceDefinition",
    }.items()
    for kind in kinds.split()
}
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as a cluster serves it: ``Resource("apps/v1", "Deployment", "deployments", True)``."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Where it is; all namespaces without ``namespace``. Names were checked by the caller."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{self.api_version}{within}/{self.plural}" + (f"/{name}" if name else "")


def rank(version: str) -> tuple[int, int, int, int]:
    """Greater is better: ``v2 > v2beta2 > v1 > v1beta1``, and anything before an alpha.

    Not the order of client-go, where v1 is before v2beta2: the one kind that had both, HorizontalPodAutoscaler,
    scales by memory and own metrics only from v2beta2 on.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        return (0, 0, 0, 0)
    major, stage, minor = int(match[1]), match[2], int(match[3] or 0)
    return (1 if stage == "alpha" else 2, major, 0 if stage else 1, minor)


class Discovery:
    """Remembers what was found. ``forget`` when an answer shows that it changed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._loading = asyncio.Lock()
        self._failed: Unavailable | None = None
        self.forget()

    def forget(self) -> None:
        self._groups: dict[str, list[str]] | None = None
        self._served: dict[str, dict[str, Resource]] = {}

    async def find(self, kind: str, group: str | None = None, wanted: str = "") -> Resource:
        """The best served version of ``kind``, or ``wanted`` (a version as ``v1``) where that is served.

        ``kind`` may carry its group: ``Certificate.cert-manager.io``. Raises ``Unsupported``.
        """
        if "." in kind:
            kind, _, group = kind.partition(".")
        before = self._failed
        async with self._loading:
            if self._failed is not None and self._failed is not before:
                # Who waited while somebody asked in vain does not ask all the same again.
                raise Unavailable(self._failed.message, hint=self._failed.hint)
            try:
                found = await self._find_anew(kind, group, wanted)
            except Unavailable as error:
                self._failed = error
                raise
        if found is None:
            named = f"{kind} of {group}" if group else kind
            raise Unsupported(
                f"the cluster at {self._transport.server} knows no {named}",
                hint="an add-on or a newer Kubernetes may be needed",
            )
        return found

    async def _find_anew(self, kind: str, group: str | None, wanted: str) -> Resource | None:
        fresh = self._groups is None
        found = await self._find(kind, group, wanted)
        if found is None and not fresh:  # it may have come since
            self.forget()
            found = await self._find(kind, group, wanted)
        return found

    async def _find(self, kind: str, group: str | None, wanted: str) -> Resource | None:
        groups = await self._all_groups()
        home = _HOME.get(kind) if group is None else group
        if home is not None:
            found = await self._in_group(home, groups.get(home, []), kind, wanted)
            if found is not None or group is not None:
                return found
        places = asyncio.Semaphore(_AT_ONCE)

        async def ask(name: str) -> Resource | None:
            async with places:
                return await self._in_group(name, groups[name], kind, wanted)

        answers = await asyncio.gather(*(ask(name) for name in groups))
        return next((answer for answer in answers if answer is not None), None)

    async def _in_group(self, group: str, versions: list[str], kind: str, wanted: str) -> Resource | None:
        def order(version: str) -> tuple[bool, bool, tuple[int, int, int, int]]:
            # One of the same major version has most likely the same form.
            same = bool(wanted) and rank(version)[1] == rank(wanted)[1]
            return (version == wanted, same, rank(version))

        for version in sorted(versions, key=order, reverse=True):
            found = (await self._resources(f"{group}/{version}" if group else version)).get(kind)
            if found is not None:
                return found
        return None

    async def _all_groups(self) -> dict[str, list[str]]:
        if self._groups is None:
            core = await self._transport.json("GET", "/api", "ask which versions there are")
            others = await self._transport.json("GET", "/apis", "ask which versions there are")
            groups = {"": [str(version) for version in core.get("versions") or ["v1"]]}
            for group in others.get("groups") or ():
                groups[str(group["name"])] = [str(item["version"]) for item in group.get("versions") or ()]
            self._groups = groups
        return self._groups

    async def _resources(self, api_version: str) -> dict[str, Resource]:
        known = self._served.get(api_version)
        if known is not None:
            return known
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            answer = await self._transport.json("GET", path, f"ask what {api_version} has")
        except NotFound:
            return {}
        except Unavailable:
            # An add-on's own API server may be down (metrics.k8s.io often is), which must not hide what else there is.
            if "." in api_version and not api_version.partition("/")[0].endswith(".k8s.io"):
                return {}
            if api_version.startswith(("metrics.", "custom.metrics.", "external.metrics.")):
                return {}
            raise
        found = {
            str(item["kind"]): Resource(
                api_version, str(item["kind"]), str(item["name"]), bool(item["namespaced"])
            )
            for item in answer.get("resources") or ()
            if "/" not in str(item["name"])  # those with one are subresources
        }
        self._served[api_version] = found
        return found


def gone(error: SlipwayError) -> bool:
    """Whether a ``NotFound`` means the kind's whole version, rather than one object."""
    return (
        error.context.get("reason") != "NotFound"
        or "the server could not find the requested" in error.message
    )
