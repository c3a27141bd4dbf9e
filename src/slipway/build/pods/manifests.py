"""The objects of a build in a cluster, as the API server takes them. No I/O."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slipway.base import capabilities
from slipway.build.pods.builder import Place
from slipway.build.pods.forms import ID_SLOTS
from slipway.build.pods.image import CACHE, KEYS, WORK
from slipway.build.pods.placement import placement
from slipway.build.pods.resources import MI, resources
from slipway.build.pods.volumes import CacheVolume
from slipway.distribution.addresses import within
from slipway.errors import Conflict

Object = dict[str, Any]
MANAGED = "app.kubernetes.io/managed-by"
ROLE, SERVER, PROJECT, BUILD = "slipway/role", "slipway/server", "slipway/project", "slipway/build"
WORKER, BUILDS = "build-worker", "builds"
TLS_KEY = "docker-"
"""What certificates for a Docker daemon are called in a build's Secret, before their names."""
_DNS = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
_LONGEST = 63  # of a namespace's name


@dataclass(frozen=True, slots=True)
class Site:
    """What all build Pods of a server in a cluster have in common.

    ``image`` is by digest. ``server`` is the URL that Pods reach the server by, ``address`` its (IP, port) pairs.
    ``outside`` are networks that builds may reach, without those of ``inside``. ``mark`` tells the server from others.
    ``host_users``: a Pod's ids are the node's, since the cluster cannot give it a user namespace of its own. ``volume``
    keeps the directories of cache mounts. ``registry`` is HOST:PORT, as nodes reach it.
    """

    image: str
    server: str
    address: Sequence[tuple[str, int]]
    mark: str
    outside: Sequence[str] = ()
    inside: Sequence[str] = ()
    authority: bytes = b""
    host_users: bool = True
    volume: CacheVolume | None = None
    registry: str = ""


def namespace_of(project: str, *, docker: bool = False) -> str:
    """Builds have a namespace of their own for each project: what they need is not allowed to its apps; those by
    ``docker`` daemons another, for what these need is not allowed to other builds.

    No two projects have the same: two dashes are in none but names that a hash was put behind. And no project's apps
    have it, whatever the project is called: theirs begin with ``slipway-`` (or what the cluster's prefix is).
    """
    name = f"{'docker' if docker else 'build'}-slipway-{project}"
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower())
    if plain == name and len(name) <= _LONGEST and "--" not in name and not name.endswith("-"):
        return name
    mark = hashlib.sha256(project.encode()).hexdigest()[:10]
    return f"{plain[: _LONGEST - 12].rstrip('-')}--{mark}"


def labels(site: Site, place: Place) -> dict[str, str]:
    return {
        MANAGED: "slipway", ROLE: WORKER, SERVER: site.mark, PROJECT: place.project[:63],
        **({BUILD: place.build_id} if place.build_id else {}),
    }  # fmt: skip


def home_of(place: Place) -> str:
    """The namespace of a build's Pod."""
    return namespace_of(place.project, docker=place.daemon is not None)


def namespace(place: Place) -> Object:
    # What a RUN needs (a seccomp profile that allows user namespaces) the stricter levels refuse by its name.
    levels = {"pod-security.kubernetes.io/enforce": "privileged"}
    metadata = {"name": home_of(place), "labels": _marked(place) | {ROLE: BUILDS} | levels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def check_namespace(place: Place, found: Object) -> None:
    """Raises ``Conflict`` when a namespace of that name is somebody else's: its rules would be replaced by ours."""
    there = found["metadata"].get("labels") or {}
    wanted = {ROLE: BUILDS, PROJECT: place.project[:63]}
    if not wanted.items() <= there.items():
        marks = " ".join(f"{key}={value}" for key, value in wanted.items())
        name = home_of(place)
        raise Conflict(
            f"the cluster's namespace {name} is not one that Slipway made for the builds of {place.project}",
            hint=f"if it is meant for them: kubectl label namespace {name} {marks}",
        )


def policies(site: Site, place: Place) -> list[Object]:
    """What the namespace's Pods may reach: nothing comes in; out go DNS, the server and the outside.

    Two of them, which add up: nothing at all, for all Pods, and the rest for those of this server. Another server
    that builds in the same namespace has other addresses, and its rules are none of ours.
    """
    server = [
        {
            "to": [{"ipBlock": {"cidr": _alone(ip)}}],
            "ports": [{"protocol": "TCP", "port": port}],
        }
        for ip, port in site.address
    ]
    outside = [
        {
            "ipBlock": {
                "cidr": block,
                **({"except": within(block, site.inside)} if within(block, site.inside) else {}),
            }
        }
        for block in site.outside
    ]
    egress: list[Object] = [{"ports": _DNS}, *server, *([{"to": outside}] if outside else [])]
    own = {"matchLabels": {SERVER: site.mark}}
    return [
        _policy(place, "slipway-builds", {}, []),
        _policy(place, f"slipway-builds-{site.mark.lower()}", own, egress),
    ]


def _policy(place: Place, name: str, chosen: Object, egress: Sequence[Object]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": home_of(place), "labels": _marked(place)},
        "spec": {"podSelector": chosen, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [*egress]},
    }  # fmt: skip


def _marked(place: Place) -> dict[str, str]:
    return {MANAGED: "slipway", PROJECT: place.project[:63]}


def claim(site: Site, place: Place, volume: CacheVolume) -> Object:
    """The project's volume. It stays when no build needs it, and is removed by whoever removes its namespace."""
    wanted: Object = {
        "accessModes": ["ReadWriteMany" if volume.many else "ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{max(1, volume.size // MI)}Mi"}},
    }
    if volume.storage_class:
        wanted["storageClassName"] = volume.storage_class
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": _claim_name(site), "namespace": home_of(place), "labels": _marked(place) | {SERVER: site.mark},
        },
        "spec": wanted,
    }  # fmt: skip


def _claim_name(site: Site) -> str:
    """Two servers may build for projects of one name in one cluster: neither sees what the other's steps keep."""
    return f"slipway-cache-{hashlib.sha256(site.mark.encode()).hexdigest()[:10]}"


def id_slot(site: Site, project: str) -> int:
    """Which ids the project's workers take up, so that files on its volume are theirs wherever they run."""
    return int(hashlib.sha256(f"{site.mark} {project}".encode()).hexdigest(), 16) % ID_SLOTS


def secret(name: str, site: Site, place: Place, token: str) -> Object:
    """What the worker comes in with. The token is good for one time."""
    files = {"token": token.encode(), "server": site.server.encode(), "ca.pem": site.authority}
    files |= {f"{TLS_KEY}{item}": data for item, data in (place.daemon.tls if place.daemon else ())}
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "namespace": home_of(place), "labels": labels(site, place)},
        "data": {key: base64.b64encode(value).decode() for key, value in files.items() if value},
    }  # fmt: skip


def pod(name: str, site: Site, place: Place, seconds: float) -> Object:
    """An unprivileged Pod, which lives for ``seconds`` at most; with ``place.in_place`` one that may mount.

    Its container begins as root without what makes one: it may take up ids and give them away, which is what a user
    namespace needs. RUN has setuid programs, so privilege escalation (within that namespace) is not forbidden.
    """
    container: Object = {
        "name": "worker", "image": site.image, "args": [], "imagePullPolicy": "IfNotPresent",
        "resources": resources(place.limits),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "runAsUser": 0, "runAsGroup": 0, "privileged": False,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "SETGID", "SETUID"]},
        },
        "volumeMounts": [
            {"name": "keys", "mountPath": KEYS, "readOnly": True}, {"name": "work", "mountPath": WORK},
        ],
    }  # fmt: skip
    spec: Object = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False,
        # Nothing in it has to be waited for: deleted is gone, also from a node that does not answer any more.
        "terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": max(1, int(seconds)),
        "securityContext": {"seccompProfile": {"type": "Unconfined"}},
        "containers": [container],
        "volumes": [
            {"name": "keys", "secret": {"secretName": name, "defaultMode": 0o400, "items": _keys(site)}},
            {"name": "work", "emptyDir": {}},
        ],
        **placement(place.avoid, {ROLE: WORKER}),
    }  # fmt: skip
    if place.in_place:
        container["args"].append("--in-place")
        container["securityContext"]["capabilities"]["add"] = sorted({"SYS_ADMIN", *capabilities.DEFAULT})
    if place.keeps:
        container["args"] += ["--cache", CACHE, "--slot", str(id_slot(site, place.project))]
        container["volumeMounts"].append({"name": "cache", "mountPath": CACHE})
        spec["volumes"].append({"name": "cache", "persistentVolumeClaim": {"claimName": _claim_name(site)}})
    if not site.host_users and not place.in_place:
        spec["hostUsers"] = False
    metadata = {
        "name": name, "namespace": home_of(place), "labels": labels(site, place),
        # Containers' usual profile forbids every mount, also within a user namespace.
        "annotations": {"container.apparmor.security.beta.kubernetes.io/worker": "unconfined"},
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _keys(site: Site) -> list[Object]:
    """What a worker reads of its Secret."""
    names = ("token", "server", *(("ca.pem",) if site.authority else ()))
    return [{"key": name, "path": name} for name in names]


def _alone(ip: str) -> str:
    return f"{ip}/{128 if ':' in ip else 32}"
