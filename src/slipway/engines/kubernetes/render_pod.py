"""The Pod of a service."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from slipway.compose import HealthTest, Service
from slipway.delivery.engine import AppRef
from slipway.delivery.releases import Release
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.quantities import memory, processors
from slipway.engines.kubernetes.render_files import KEY, config_name, volume_name
from slipway.engines.kubernetes.setting import Setting
from slipway.oci import Reference

# Between a Pod's end and the last node's knowing of it requests still come; it goes on taking them so long.
_LINGER_SECONDS = 3
_PROBE_SECONDS = 5
_REQUESTED_OF_CPU = 0.1


def template(
    app: AppRef, release: Release, service: Service, setting: Setting, restart: str, renewed: str
) -> dict[str, Any]:
    """``renewed``: another text makes other Pods."""
    annotations = {names.CONFIG: release.config_of(service)}
    if renewed:
        annotations[names.RESTARTED] = renewed
    if service.labels:
        annotations[f"{names.LABEL}labels"] = json.dumps(dict(service.labels), sort_keys=True)
    labels = {
        "app.kubernetes.io/name": service.name,
        "app.kubernetes.io/instance": app.name,
        "app.kubernetes.io/part-of": app.project,
        names.MANAGED: names.MANAGER,
        **names.service_labels(app, service.name),
        **{names.network_label(name): "true" for name in service.networks or ("default",)},
        **{names.alias_label(alias): "true" for use in service.networks.values() for alias in use.aliases},
    }
    return {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": _spec(app, release, service, setting, restart),
    }


def _spec(app: AppRef, release: Release, service: Service, setting: Setting, restart: str) -> dict[str, Any]:
    mounts, volumes = _volumes(app, release, service)
    linger = _LINGER_SECONDS if service.ports and restart == "Always" else 0
    found: dict[str, Any] = {
        "containers": [_container(release, service, setting, mounts, linger)],
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": math.ceil(service.stop_grace_period) + linger,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _pod_security(service),
    }
    if volumes:
        found["volumes"] = volumes
    if setting.pull_secret:
        found["imagePullSecrets"] = [{"name": setting.pull_secret}]
    if service.hostname:
        found["hostname"] = service.hostname
    if service.extra_hosts:
        found["hostAliases"] = _hosts(service.extra_hosts)
    return found


def _container(
    release: Release, service: Service, setting: Setting, mounts: list[dict[str, Any]], linger: int
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": service.name,
        "image": image(release.images[service.name], setting),
        "imagePullPolicy": "IfNotPresent",
    }
    if service.entrypoint is not None:
        found["command"] = [_literal(word) for word in service.entrypoint]
    if service.command is not None:
        found["args"] = [_literal(word) for word in service.command]
    if service.environment:
        found["env"] = [{"name": key, "value": _literal(text)} for key, text in service.environment.items()]
    if service.working_dir:
        found["workingDir"] = service.working_dir
    numbers = dict.fromkeys([*(port.target for port in service.ports), *service.expose])
    if numbers:
        found["ports"] = [
            {"name": f"p{number}", "containerPort": number, "protocol": "TCP"} for number in numbers
        ]
    if resources := _resources(service):
        found["resources"] = resources
    if mounts:
        found["volumeMounts"] = mounts
    if security := _security(service):
        found["securityContext"] = security
    if probe := _probe(service):
        found["readinessProbe"] = probe
    if linger:
        wait = ["/bin/sh", "-c", f"sleep {linger}"]
        found["lifecycle"] = {"preStop": {"exec": {"command": wait}}}
    return found


def image(found: Mapping[str, str], setting: Setting) -> str:
    """By digest, from the registry that the nodes reach; an image of another registry stays where it is."""
    reference = Reference.parse(found["reference"])
    host = reference.registry or setting.registry
    name = f"{host}/{reference.repository}" if host else reference.repository
    if digest := found.get("digest") or str(reference.digest or ""):
        return f"{name}@{digest}"
    return f"{name}:{reference.tag or 'latest'}"


def _literal(text: str) -> str:
    """Kubernetes would replace ``$(NAME)``; Compose has done its replacing already."""
    return text.replace("$", "$$")


def _resources(service: Service) -> dict[str, Any]:
    limits, requests = {}, {}
    if service.cpus:
        limits["cpu"] = processors(service.cpus)
    if service.memory:
        limits["memory"] = memory(service.memory)
    # Without a request Kubernetes takes the limit for one. Memory is given once and for all, processors are shared.
    cpus = service.cpus_reserved or service.cpus * _REQUESTED_OF_CPU
    if cpus:
        requests["cpu"] = processors(cpus)
    if size := service.memory_reserved or service.memory:
        requests["memory"] = memory(size)
    return {key: value for key, value in (("limits", limits), ("requests", requests)) if value}


def _pod_security(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if service.user:
        user, _, group = service.user.partition(":")
        found["runAsUser"] = int(user)
        if group:
            found["runAsGroup"] = int(group)
        found["fsGroup"] = int(group or user)  # else a volume is root's alone
    return found


def _security(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if service.read_only:
        found["readOnlyRootFilesystem"] = True
    capabilities = {
        key: [name.upper().removeprefix("CAP_") for name in names]
        for key, names in (("add", service.cap_add), ("drop", service.cap_drop))
        if names
    }
    if capabilities:
        found["capabilities"] = capabilities
    return found


def _probe(service: Service) -> dict[str, Any] | None:
    """Readiness alone: Compose does not restart what is unhealthy. Without a check the first port has to accept."""
    check = service.healthcheck
    if check is None:
        if not service.ports:
            return None
        address = {"port": service.ports[0].target}
        return {"tcpSocket": address, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 3}
    command = _command(check)
    if command is None:
        return None
    # Kubernetes asks no more often at the start, so it asks at the start's pace always.
    period = max(1, round(min(check.interval, check.start_interval, _PROBE_SECONDS)))
    return {
        "exec": {"command": command},
        "periodSeconds": period,
        "timeoutSeconds": max(1, math.ceil(check.timeout)),
        "failureThreshold": max(1, math.ceil(check.retries * check.interval / period)),
    }


def _command(check: HealthTest) -> list[str] | None:
    if check.test[0] == "NONE":
        return None
    return ["/bin/sh", "-c", check.test[1]] if check.test[0] == "CMD-SHELL" else list(check.test[1:])


def _hosts(extra: Mapping[str, str]) -> list[dict[str, Any]]:
    by_address: dict[str, list[str]] = {}
    for host, address in extra.items():
        by_address.setdefault(address.strip("[]"), []).append(host)
    return [{"ip": address, "hostnames": found} for address, found in by_address.items()]


def _volumes(
    app: AppRef, release: Release, service: Service
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the container mounts, and where it comes from."""
    mounts: list[dict[str, Any]] = []
    sources: dict[str, dict[str, Any]] = {}

    def mount(key: str, target: str, source: dict[str, Any], **more: Any) -> None:
        name = names.object_name(*key.split("/", 1), limit=60)
        sources.setdefault(name, source)
        mounts.append({"name": name, "mountPath": target, **more})

    memory_only = {"medium": "Memory"}
    for item in service.volumes:
        read_only = {"readOnly": True} if item.read_only else {}
        if item.kind == "tmpfs":
            mount(f"tmp/{item.target}", item.target, {"emptyDir": memory_only}, **read_only)
        elif item.source:
            claim = {"claimName": volume_name(app, item.source)}
            mount(f"data/{item.source}", item.target, {"persistentVolumeClaim": claim}, **read_only)
        elif service.read_only:
            mount(f"tmp/{item.target}", item.target, {"emptyDir": {}})
        # Else nothing: an anonymous volume lives as long as its container, and so does the container's own layer.
    for path in service.tmpfs:
        mount(f"tmp/{path}", path, {"emptyDir": memory_only})
    if service.shm_size:
        shared = {"emptyDir": {**memory_only, "sizeLimit": memory(service.shm_size)}}
        mount("shm", "/dev/shm", shared)
    for file in service.configs:
        name = config_name(app, file.source, release.model.configs[file.source])
        source = {"configMap": {"name": name, "defaultMode": file.mode}}
        mount(f"config/{file.source}/{file.mode:o}", file.target, source, subPath=KEY, readOnly=True)
    for file in service.secrets:
        name = config_name(app, file.source, release.model.secrets[file.source])
        source = {"secret": {"secretName": name, "defaultMode": file.mode}}
        mount(f"secret/{file.source}/{file.mode:o}", file.target, source, subPath=KEY, readOnly=True)
    return mounts, [{"name": name, **source} for name, source in sources.items()]
