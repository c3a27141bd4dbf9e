"""Instances: Pods, as the rest of Slipway sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from slipway.delivery.engine import AppRef, Instance, LogRecord
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.health import is_ready
from slipway.engines.kubernetes.objects import Object, is_leaving
from slipway.engines.kubernetes.observed import app_of
from slipway.kubernetes import ClusterClient


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
