"""Instances: Pods, as the rest of Slipway sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from slipway.delivery.engine import Instance, LogRecord
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.health import is_ready
from slipway.engines.kubernetes.objects import Key, Object
from slipway.kubernetes import ClusterClient


def instances(pods: Sequence[Object], objects: Mapping[Key, Object]) -> list[Instance]:
    """``objects``: the app's workloads, which say the release that their present Pods are of."""
    releases: dict[tuple[str, str], int] = {}
    for item in objects.values():
        annotations = item["spec"]["template"]["metadata"].get("annotations", {})
        labels = item["metadata"]["labels"]
        key = (labels.get(names.SERVICE, ""), annotations.get(names.CONFIG, ""))
        releases[key] = int(labels.get(names.VERSION, "0"))
    numbers: dict[str, int] = {}
    found = []
    for pod in sorted(
        pods, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"])
    ):
        service = pod["metadata"]["labels"].get(names.SERVICE, "")
        numbers[service] = numbers.get(service, 0) + 1
        config = pod["metadata"].get("annotations", {}).get(names.CONFIG, "")
        found.append(_instance(pod, service, numbers[service], config, releases.get((service, config), 0)))
    return found


def _instance(pod: Object, service: str, number: int, config: str, release: int) -> Instance:
    status, metadata = pod.get("status", {}), pod["metadata"]
    states = status.get("containerStatuses") or ()
    ended = [
        state["state"]["terminated"]["exitCode"] for state in states if "terminated" in state.get("state", {})
    ]
    running = status.get("phase") in ("Pending", "Running") and "deletionTimestamp" not in metadata
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
