"""The objects of an installation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import yaml

from slipway.errors import Invalid

Get = Callable[[str], Any]
"""From a value's name to what stands for it."""

NO_LABELS: Mapping[str, str] = MappingProxyType({})
_VERSION = re.compile(r"v?1\.(\d{1,6})(\..*)?")
_POLICY_V1 = 21  # the first minor version that has it
_PORT = 7070
_UID = 10_070
_GRACE_SECONDS = 110
_KEYS = "/etc/slipway/keys"
_LABELS = {"app.kubernetes.io/name": "slipway", "app.kubernetes.io/managed-by": "slipway"}
_RESTRICTED = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """One object; with ``when`` only where that value is neither empty nor 0."""

    object: dict[str, Any]
    when: str = ""


def documents(get: Get, further: Mapping[str, str] = NO_LABELS, policy: str = "policy/v1") -> list[Document]:
    """Everything but the Secrets, which hold what nobody should print. No namespace is named: who applies says.

    ``further`` are labels that tell one installation from another in a namespace; ``policy`` is the version of
    PodDisruptionBudgets (1.20 has ``policy/v1beta1`` only, 1.25 does not have it any more).
    """
    labels = {**_LABELS, "app.kubernetes.io/component": "registry", **further}
    return [
        Document(_object("v1", "ServiceAccount", "slipway", automountServiceAccountToken=False)),
        Document(_registry(get, labels)),
        Document(_service("slipway-registry", labels)),
        Document(_node_port(get, labels), when="registry.nodePort"),
        Document(
            _object(
                policy, "PodDisruptionBudget", "slipway-registry",
                spec={"maxUnavailable": 1, "selector": {"matchLabels": labels}},
            )
        ),
        Document(_ingress(get), when="host"),
    ]  # fmt: skip


def policy_version(version: str) -> str:
    """For ``documents``, of a Kubernetes of this version: ``1.28``, ``v1.20.2``. Raises ``Invalid``."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise Invalid(f"not a version of Kubernetes: {version[:50]!r}", hint="e.g. 1.28")
    return "policy/v1" if int(match[1]) >= _POLICY_V1 else "policy/v1beta1"


def _object(api_version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    return {
        "apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": dict(_LABELS)}, **rest,
    }  # fmt: skip


def _registry(get: Get, labels: dict[str, str]) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "timeoutSeconds": 6}
    container = {
        "name": "registry",
        "image": get("image"),
        "args": ["serve", "--role", "registry"],
        "envFrom": [{"secretRef": {"name": get("settings")}}],
        "env": [
            {"name": "SLIPWAY_LISTEN", "value": f"0.0.0.0:{_PORT}"},
            {"name": "SLIPWAY_RUN", "value": "/run/slipway"},
            {"name": "SLIPWAY_DATA", "value": "/var/lib/slipway"},
            {"name": "SLIPWAY_KEYS", "value": _KEYS},
            # Transfers that are under way when a server is replaced end in peace.
            {"name": "SLIPWAY_GRACE_SECONDS", "value": str(_GRACE_SECONDS)},
            {"name": "SLIPWAY_LOG_LEVEL", "value": get("logLevel")},
        ],
        "ports": [{"name": "http", "containerPort": _PORT}],
        # The first start makes the database's tables.
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 5},
        # Alive is who accepts connections: with the database away, a restart mends nothing.
        "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {
            "requests": {"cpu": get("registry.cpu"), "memory": get("registry.memory")},
            "limits": {"memory": get("registry.memory")},
        },
        "securityContext": _RESTRICTED,
        "volumeMounts": [
            {"name": "keys", "mountPath": _KEYS, "readOnly": True},
            {"name": "run", "mountPath": "/run/slipway"},
            {"name": "data", "mountPath": "/var/lib/slipway"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }  # fmt: skip
    pod = {
        "serviceAccountName": "slipway",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": get("pullSecret")}],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": _UID, "runAsGroup": _UID, "fsGroup": _UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": _GRACE_SECONDS + 10,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
        ],
        "containers": [container],
        "volumes": [
            {"name": "keys", "secret": {"secretName": get("keys"), "defaultMode": 0o440}},
            *({"name": name, "emptyDir": {}} for name in ("run", "data", "tmp")),
        ],
    }  # fmt: skip
    return _object(
        "apps/v1", "Deployment", "slipway-registry",
        spec={
            "replicas": get("registry.replicas"),
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    )  # fmt: skip


def _service(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    port = {"name": "http", "port": _PORT, "targetPort": "http"}
    return _object("v1", "Service", name, spec={"selector": selector, "ports": [port], **spec})


def _node_port(get: Get, selector: dict[str, str]) -> dict[str, Any]:
    port = {"name": "http", "port": _PORT, "targetPort": "http", "nodePort": get("registry.nodePort")}
    return _service("slipway-registry-nodes", selector, type="NodePort", ports=[port])


def _ingress(get: Get) -> dict[str, Any]:
    backend = {"service": {"name": "slipway-registry", "port": {"name": "http"}}}
    found = _object(
        "networking.k8s.io/v1", "Ingress", "slipway",
        spec={
            "ingressClassName": get("ingressClass"),
            "tls": [{"hosts": [get("host")], "secretName": get("tlsSecret")}],
            "rules": [
                {
                    "host": get("host"),
                    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                }
            ],
        },
    )  # fmt: skip
    # Layers are of any size, and are passed on as they come.
    found["metadata"]["annotations"] = {
        "nginx.ingress.kubernetes.io/proxy-body-size": "0",
        "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
    }
    return found


def as_yaml(objects: Sequence[Mapping[str, Any]]) -> str:
    return yaml.dump_all(objects, Dumper=_Plain, sort_keys=False, width=1000)


class _Plain(yaml.SafeDumper):
    """Without references to what was said above: this is read by people."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
