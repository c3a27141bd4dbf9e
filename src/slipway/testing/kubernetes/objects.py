"""Small Kubernetes objects for tests, and waiting for what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

Object = dict[str, Any]
# Answers every request with the name of the Pod, and ends at once when it is told to.
WEB = ["sh", "-c", "mkdir -p /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"]


def pod(namespace: str, name: str, image: str, command: Sequence[str], **spec: Any) -> Object:
    """A Pod that runs once."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": image, "command": list(command)}],
            **spec,
        },
    }


def web(namespace: str, name: str, image: str, replicas: int) -> tuple[Object, Object]:
    """A Deployment of busybox web servers, spread over the nodes, and its Service on port 80."""
    labels = {"app": name}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    container = {
        "name": "web",
        "image": image,
        "command": WEB,
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1},
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "topologySpreadConstraints": [spread],
            "containers": [container],
        },
    }
    metadata = {"name": name, "namespace": namespace}
    return (
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> float:
    """Wait for ``condition`` and return how long it took, in seconds. Raises ``AssertionError`` with ``what``."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.3)
    return time.monotonic() - start
