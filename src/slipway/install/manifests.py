"""The objects of an installation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import yaml

from slipway.errors import Invalid
from slipway.install import rights
from slipway.install.objects import LABELS, PORT, Get, deployment, object_

NO_LABELS: Mapping[str, str] = MappingProxyType({})
CLUSTER_WIDE = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding"})
_API = ("api.replicas",)
_VERSION = re.compile(r"v?1\.(\d{1,6})(\..*)?")
_POLICY_V1 = 21  # the first minor version that has it


@dataclass(frozen=True, slots=True)
class Document:
    """One object; only where each of the values ``when`` is neither empty nor 0."""

    object: dict[str, Any]
    when: tuple[str, ...] = ()

    def is_wanted(self, get: Get) -> bool:
        return all(get(name) for name in self.when)


def documents(
    get: Get, further: Mapping[str, str] = NO_LABELS, policy: str = "policy/v1", namespace: str = "slipway"
) -> list[Document]:
    """Everything but the Secrets, which hold what nobody should print.

    ``further`` are labels that tell one installation from another in a namespace; ``policy`` is the version of
    PodDisruptionBudgets (1.20 has ``policy/v1beta1`` only, 1.25 does not have it any more). ``namespace`` is where it
    goes; only what is of the whole cluster says so, elsewhere it is for who applies to say.
    """
    registry, api = (
        {**LABELS, "app.kubernetes.io/component": component, **further} for component in ("registry", "api")
    )
    return [
        Document(object_("v1", "ServiceAccount", "slipway", automountServiceAccountToken=False)),
        Document(_registry(get, registry)),
        Document(_service("slipway-registry", registry)),
        Document(_node_port("slipway-registry", registry, get("registry.nodePort")), ("registry.nodePort",)),
        Document(_disruption(policy, "slipway-registry", registry)),
        Document(_ingress(get, "slipway-registry", ("/v2", "/token")), ("host",)),
        *(Document(item, _API) for item in rights.objects(namespace)),
        Document(_api(get, api), _API),
        Document(_service("slipway-api", api), _API),
        Document(_node_port("slipway-api", api, get("api.nodePort")), (*_API, "api.nodePort")),
        Document(_disruption(policy, "slipway-api", api), _API),
        Document(_ingress(get, "slipway-api", ("/",)), ("host", *_API)),
    ]


def policy_version(version: str) -> str:
    """For ``documents``, of a Kubernetes of this version: ``1.28``, ``v1.20.2``. Raises ``Invalid``."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise Invalid(f"not a version of Kubernetes: {version[:50]!r}", hint="e.g. 1.28")
    return "policy/v1" if int(match[1]) >= _POLICY_V1 else "policy/v1beta1"


def _registry(get: Get, labels: dict[str, str]) -> dict[str, Any]:
    account = {"serviceAccountName": "slipway", "automountServiceAccountToken": False}
    return deployment(get, "registry", labels, [], account)


def _api(get: Get, labels: dict[str, str]) -> dict[str, Any]:
    password = {"secretKeyRef": {"name": get("admin"), "key": "password", "optional": True}}
    environment: list[dict[str, Any]] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        # Each is reached by itself: by the workers of its builds, and by the others while it leads.
        {"name": "SLIPWAY_KUBERNETES_SERVER", "value": f"http://$(POD_IP):{PORT}"},
        {"name": "SLIPWAY_KUBERNETES_REGISTRY", "value": get("registryAddress")},
        {"name": "SLIPWAY_KUBERNETES_CLUSTER", "value": get("cluster")},
        {"name": "SLIPWAY_APPS_DOMAIN", "value": get("domain")},
        {"name": "SLIPWAY_ADMIN_PASSWORD", "valueFrom": password},
    ]
    return deployment(get, "api", labels, environment, {"serviceAccountName": rights.ACCOUNT})


def _disruption(policy: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    return object_(policy, "PodDisruptionBudget", name, spec=spec)


def _service(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    port = {"name": "http", "port": PORT, "targetPort": "http"}
    return object_("v1", "Service", name, spec={"selector": selector, "ports": [port], **spec})


def _node_port(name: str, selector: dict[str, str], number: Any) -> dict[str, Any]:
    port = {"name": "http", "port": PORT, "targetPort": "http", "nodePort": number}
    return _service(f"{name}-nodes", selector, type="NodePort", ports=[port])


def _ingress(get: Get, service: str, paths: Sequence[str]) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"name": "http"}}}
    found = object_(
        "networking.k8s.io/v1", "Ingress", service,
        spec={
            "ingressClassName": get("ingressClass"),
            "tls": [{"hosts": [get("host")], "secretName": get("tlsSecret")}],
            "rules": [
                {
                    "host": get("host"),
                    "http": {
                        "paths": [{"path": path, "pathType": "Prefix", "backend": backend} for path in paths]
                    },
                }
            ],
        },
    )  # fmt: skip
    # Layers are of any size, and are passed on as they come; a build may say nothing for long.
    found["metadata"]["annotations"] = {
        "nginx.ingress.kubernetes.io/proxy-body-size": "0",
        "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
    }
    return found


def as_yaml(objects: Sequence[Mapping[str, Any]]) -> str:
    return yaml.dump_all(objects, Dumper=_Plain, sort_keys=False, width=1000)


class _Plain(yaml.SafeDumper):
    """Without references to what was said above: this is read by people."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
