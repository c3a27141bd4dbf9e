"""Services, Ingresses and NetworkPolicies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slipway.compose import Project, Service
from slipway.delivery.engine import AppRef
from slipway.delivery.hosts import hosts
from slipway.delivery.jobs import is_job
from slipway.engines.kubernetes.names import (
    alias_label,
    app_labels,
    network_label,
    object_labels,
    object_name,
    service_labels,
)
from slipway.engines.kubernetes.setting import Setting

DEFAULT = "default"
_DNS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def services(app: AppRef, model: Project, version: str) -> Iterator[dict[str, Any]]:
    """One for each service, by its own name, and one for each alias.

    With ports it has an address of its own, behind which instances come and go. Without any, or with volumes, its name
    stands for the instances themselves.
    """
    aliases: dict[str, list[Service]] = {}
    for service in model.services.values():
        if is_job(model, service):
            continue
        ports = _ports([service])
        headless = not ports or service.stateful
        chosen = service_labels(app, service.name)
        yield _service(app, version, service.name, service.name, chosen, ports, headless)
        for use in service.networks.values():
            for alias in use.aliases:
                if alias != service.name:
                    aliases.setdefault(alias, []).append(service)
    for alias, behind in aliases.items():
        ports = _ports(behind)
        headless = not ports or any(item.stateful for item in behind)
        chosen = {**app_labels(app), alias_label(alias): "true"}
        yield _service(app, version, alias, behind[0].name, chosen, ports, headless)


def _ports(behind: list[Service]) -> list[dict[str, Any]]:
    numbers = [number for item in behind for number in (*(port.target for port in item.ports), *item.expose)]
    return [
        {"name": f"p{number}", "port": number, "targetPort": number, "protocol": "TCP"}
        for number in dict.fromkeys(numbers)
    ]


def _service(
    app: AppRef, version: str, name: str, service: str, chosen: dict[str, str], ports: list[dict[str, Any]],
    headless: bool,
) -> dict[str, Any]:  # fmt: skip
    spec: dict[str, Any] = {"type": "ClusterIP", "selector": chosen}
    if headless:
        spec["clusterIP"] = "None"
    if ports:
        spec["ports"] = ports
    metadata = {"name": name, "labels": object_labels(app, version, service)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def ingresses(app: AppRef, model: Project, version: str, setting: Setting) -> Iterator[dict[str, Any]]:
    """Every published port, at the names it has on any engine."""
    for service in model.services.values():
        if not service.ports or is_job(model, service):
            continue
        rules = {host: port.target for host, port in hosts(app, service, setting.domain)}
        spec: dict[str, Any] = {"rules": [_rule(host, service, port) for host, port in rules.items()]}
        if setting.ingress_class:
            spec["ingressClassName"] = setting.ingress_class
        name = object_name(app.name, service.name)
        metadata = {"name": name, "labels": object_labels(app, version, service.name)}
        yield {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def urls(app: AppRef, service: Service, setting: Setting) -> list[str]:
    """Where its Ingress answers."""
    port = f":{setting.port}" if setting.port != 80 else ""
    return [f"http://{host}{port}/" for host in dict(hosts(app, service, setting.domain))]


def _rule(host: str, service: Service, port: int) -> dict[str, Any]:
    backend = {"service": {"name": service.name, "port": {"number": port}}}
    return {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}


def policies(app: AppRef, model: Project, version: str) -> Iterator[dict[str, Any]]:
    """Who is on a network reaches who else is on it; published ports are open to all; nothing else gets in."""
    used = dict.fromkeys(name for service in model.services.values() for name in _networks(service))
    for name in used:
        mine = {"podSelector": {"matchLabels": _on(app, name)}}
        spec = {**mine, "policyTypes": ["Ingress"], "ingress": [{"from": [mine]}]}
        yield _policy(app, version, object_name(app.name, name), spec)
    for service in model.services.values():
        chosen = {"podSelector": {"matchLabels": service_labels(app, service.name)}}
        if service.ports:
            numbers = dict.fromkeys(port.target for port in service.ports)
            ports = [{"port": number, "protocol": "TCP"} for number in numbers]
            spec = {**chosen, "policyTypes": ["Ingress"], "ingress": [{"ports": ports}]}
            yield _policy(app, version, object_name(app.name, service.name, "published"), spec, service.name)
        if all(_internal(model, name) for name in _networks(service)):
            to = [{"podSelector": {"matchLabels": _on(app, name)}} for name in _networks(service)]
            spec = {**chosen, "policyTypes": ["Egress"], "egress": [{"to": to}, {"ports": _DNS}]}
            yield _policy(app, version, object_name(app.name, service.name, "internal"), spec, service.name)


def _networks(service: Service) -> tuple[str, ...]:
    return tuple(service.networks) or (DEFAULT,)


def _internal(model: Project, name: str) -> bool:
    return name in model.networks and model.networks[name].internal


def _on(app: AppRef, network: str) -> dict[str, str]:
    return {**app_labels(app), network_label(network): "true"}


def _policy(app: AppRef, version: str, name: str, spec: dict[str, Any], service: str = "") -> dict[str, Any]:
    metadata = {"name": name, "labels": object_labels(app, version, service)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
