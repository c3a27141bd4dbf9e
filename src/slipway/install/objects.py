"""What the objects of an installation have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Get = Callable[[str], Any]
"""From a value's name to what stands for it."""

PORT = 7070
LABELS = {"app.kubernetes.io/name": "slipway", "app.kubernetes.io/managed-by": "slipway"}
_UID = 10_070
_GRACE_SECONDS = 110
_KEYS = "/etc/slipway/keys"
_MOUNTS = {"run": ("/run/slipway",), "data": ("/var/lib/slipway",), "tmp": ("/tmp", "/var/tmp")}
_RESTRICTED = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip


def object_(api_version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    return {
        "apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": dict(LABELS)}, **rest,
    }  # fmt: skip


def deployment(
    get: Get,
    role: str,
    labels: dict[str, str],
    environment: Sequence[Mapping[str, Any]],
    account: Mapping[str, Any],
) -> dict[str, Any]:
    """Of one role, at the restricted level of Pod security. Replaced one by one, the new one first."""
    pod = {
        **account,
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": get("pullSecret")}],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": _UID, "runAsGroup": _UID, "fsGroup": _UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # What goes on has its time to end, and then the connections.
        "terminationGracePeriodSeconds": 2 * _GRACE_SECONDS + 20,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
        ],
        "containers": [_container(get, role, environment)],
        "volumes": [
            {"name": "keys", "secret": {"secretName": get("keys"), "defaultMode": 0o440}},
            *({"name": name, "emptyDir": {}} for name in _MOUNTS),
        ],
    }  # fmt: skip
    return object_(
        "apps/v1", "Deployment", f"slipway-{role}",
        spec={
            "replicas": get(f"{role}.replicas"),
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    )  # fmt: skip


def _container(get: Get, role: str, environment: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "timeoutSeconds": 6}
    return {
        "name": role,
        "image": get("image"),
        # Not through the command line, so that a signal finds who listens to it as early as can be.
        "command": ["python3", "-m", "slipway.app"],
        "args": ["serve", "--role", role],
        "envFrom": [{"secretRef": {"name": get("settings")}}],
        "env": [
            {"name": "SLIPWAY_LISTEN", "value": f"0.0.0.0:{PORT}"},
            {"name": "SLIPWAY_RUN", "value": "/run/slipway"},
            {"name": "SLIPWAY_DATA", "value": "/var/lib/slipway"},
            {"name": "SLIPWAY_KEYS", "value": _KEYS},
            # Transfers that are under way when a server is replaced end in peace.
            {"name": "SLIPWAY_GRACE_SECONDS", "value": str(_GRACE_SECONDS)},
            {"name": "SLIPWAY_LOG_LEVEL", "value": get("logLevel")},
            {"name": "SLIPWAY_PROXIES", "value": get("proxies")},
            *environment,
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        # The first start makes the database's tables.
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 5},
        # Alive is who accepts connections: with the database away, a restart mends nothing.
        "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {
            "requests": {"cpu": get(f"{role}.cpu"), "memory": get(f"{role}.memory")},
            "limits": {"memory": get(f"{role}.memory")},
        },
        "securityContext": _RESTRICTED,
        "volumeMounts": [
            {"name": "keys", "mountPath": _KEYS, "readOnly": True},
            *({"name": name, "mountPath": path} for name, paths in _MOUNTS.items() for path in paths),
        ],
    }  # fmt: skip
