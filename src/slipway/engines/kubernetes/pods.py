"""Instances: Pods, as the rest of Slipway sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

from slipway.base.progress import silent
from slipway.delivery.commands import Command
from slipway.delivery.engine import AppRef, Instance, LogRecord
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.health import is_ready
from slipway.engines.kubernetes.kinds import WORKLOADS
from slipway.engines.kubernetes.objects import Object, is_leaving
from slipway.engines.kubernetes.observed import OURS, app_of, is_ours
from slipway.engines.kubernetes.patient import PatientClient
from slipway.errors import NotFound
from slipway.kubernetes import ClusterClient


class Pods:
    """Looks at the cluster without waiting for one that is away. Others' Pods are not seen."""

    def __init__(self, client: ClusterClient, prefix: str) -> None:
        """``prefix``: of our namespaces."""
        self._client = client
        self._prefix = prefix

    async def instances(self, app: AppRef) -> list[Instance]:
        found = await self._instances(names.app_labels(app))
        return found.get(app, [])

    async def overview(self, apps: Collection[AppRef]) -> Mapping[AppRef, list[Instance]]:
        found = await self._instances(OURS)
        return {app: found.get(app, []) for app in apps}

    async def _instances(self, labels: dict[str, str] | str) -> dict[AppRef, list[Instance]]:
        pods, *workloads = await asyncio.gather(*(self._list(kind, labels) for kind in ("Pod", *WORKLOADS)))
        return instances(pods, [item for items in workloads for item in items])

    async def _list(self, kind: str, labels: dict[str, str] | str) -> list[Object]:
        found = await PatientClient(self._client, silent, 0).list(kind, None, labels)
        return [item for item in found if is_ours(item, self._prefix)]

    async def _namespace(self, app: AppRef, instance: Instance) -> str:
        """Where it is; empty: it is gone."""
        found = await self._list("Pod", names.service_labels(app, instance.service))
        mine = [item["metadata"]["namespace"] for item in found if item["metadata"]["name"] == instance.id]
        return str(mine[0]) if mine else ""

    async def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        """Nothing of an instance that is gone."""
        namespace = await self._namespace(app, instance)
        if namespace:
            source = read_logs(self._client, namespace, instance, follow, tail)
            async with aclosing(source) as lines:  # type: ignore[type-var]
                async for line in lines:
                    yield line

    @asynccontextmanager
    async def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AsyncIterator[Command]:
        namespace = await self._namespace(app, instance)
        if not namespace:
            raise NotFound(f"the instance {instance.id} is gone")
        async with self._client.run(
            namespace, instance.id, command, instance.service, takes_input=takes_input, terminal=terminal
        ) as running:
            yield running


def instances(pods: Sequence[Object], workloads: Sequence[Object]) -> dict[AppRef, list[Instance]]:
    """By app, those that are not on their way out.

    ``workloads`` say the release that their present Pods are of; of others' it is not known any more: 0.
    """
    releases: dict[tuple[AppRef, str, str], int] = {}
    for item in workloads:
        annotations = item["spec"]["template"]["metadata"].get("annotations", {})
        labels = item["metadata"]["labels"]
        key = (app_of(item), labels.get(names.SERVICE, ""), annotations.get(names.CONFIG, ""))
        releases[key] = int(labels.get(names.VERSION, "0"))
    numbers: dict[tuple[AppRef, str], int] = {}
    found: dict[AppRef, list[Instance]] = {}
    for pod in sorted(
        pods, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"])
    ):
        if is_leaving(pod):
            continue
        app, service = app_of(pod), pod["metadata"]["labels"].get(names.SERVICE, "")
        number = numbers[app, service] = numbers.get((app, service), 0) + 1
        config = pod["metadata"].get("annotations", {}).get(names.CONFIG, "")
        release = releases.get((app, service, config), 0)
        found.setdefault(app, []).append(_instance(pod, service, number, config, release))
    return found


def _instance(pod: Object, service: str, number: int, config: str, release: int) -> Instance:
    status, metadata = pod.get("status", {}), pod["metadata"]
    states = status.get("containerStatuses") or ()
    ended = [
        state["state"]["terminated"]["exitCode"] for state in states if "terminated" in state.get("state", {})
    ]
    running = status.get("phase") in ("Pending", "Running")
    probed = any("readinessProbe" in item for item in pod["spec"]["containers"])
    health = ("healthy" if is_ready(pod) else "starting") if running and (probed or not is_ready(pod)) else ""
    return Instance(
        metadata["name"],
        service,
        release,
        number,
        config,
        running,
        health,
        status.get("podIP", ""),
        sum(state.get("restartCount", 0) for state in states),
        ended[0] if ended and not running else None,
    )


async def read_logs(
    client: ClusterClient, namespace: str, instance: Instance, follow: bool, tail: int | None
) -> AsyncIterator[LogRecord]:
    """Kubernetes keeps both of a container's streams as one."""
    source = client.logs(namespace, instance.id, instance.service, follow=follow, tail=tail)
    async with aclosing(source) as lines:
        async for line in lines:
            moment, _, text = line.decode(errors="replace").rstrip("\n").partition(" ")
            yield LogRecord(instance.id, instance.service, "stdout", moment, text)
