"""Pods whose builds a Docker daemon does: beside the worker, its node's, or another. No cluster is asked here.

For comparison, and for teams that need them. A container with a daemon in it is privileged, and whoever has a node's
socket is root there: only builders that an administrator added and gave to the project come here, in a namespace that
nothing else of the project is in.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from slipway.build.builders import BuilderRecord
from slipway.build.pods import manifests
from slipway.build.pods.builder import Daemon, Place
from slipway.build.pods.image import DOCKER, NODE_SOCKET, TLS
from slipway.build.pods.manifests import TLS_KEY, Object, Site
from slipway.build.pods.resources import resources
from slipway.build.pods.waiting import DAEMON
from slipway.errors import Invalid

_FILES = ("ca.pem", "cert.pem", "key.pem")
_WORKER = {
    "limits": {"cpu": "1", "memory": "512Mi"},
    "requests": {"cpu": "50m", "memory": "128Mi"},
}  # it moves bytes; what builds is elsewhere
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def daemon_of(record: BuilderRecord) -> Daemon | None:
    """``None`` where workers build themselves. Raises ``Invalid`` for certificates that cannot be read. Blocks."""
    if record.kind == "kubernetes":
        return None
    try:
        tls = tuple((name, (Path(record.tls) / name).read_bytes()) for name in _FILES) if record.tls else ()
    except OSError as error:
        raise Invalid(
            f"the certificates in {record.tls} cannot be read: {error.strerror}",
            hint="it holds ca.pem, cert.pem and key.pem",
        ) from error
    address = urlsplit(record.daemon).path if record.kind == "socket" else record.daemon
    return Daemon(record.name, record.kind, address, record.image, tls)


def pod(name: str, site: Site, place: Place, seconds: float, image: str) -> Object:
    """A Pod as any build's, but for what its daemon needs. ``image`` is what a ``dind`` is started from."""
    found = manifests.pod(name, site, place, seconds)
    daemon = place.daemon
    if daemon is None:
        return found
    spec = found["spec"]
    spec.pop("hostUsers", None)  # a daemon, or its socket, is of the node's own users
    (worker,) = spec["containers"]
    worker["args"] = ["--daemon"]
    worker["securityContext"]["capabilities"] = {"drop": ["ALL"]}  # it takes up no user namespace
    worker["resources"] = _WORKER
    if daemon.kind == "dind":
        worker["volumeMounts"].append({"name": "docker", "mountPath": DOCKER})
        spec["containers"].append(_docker(site, place, image))
        spec["volumes"] += [{"name": "docker", "emptyDir": {}}, {"name": "images", "emptyDir": {}}]
    elif daemon.kind == "socket":
        worker["volumeMounts"].append({"name": "node", "mountPath": NODE_SOCKET})
        spec["volumes"].append({"name": "node", "hostPath": {"path": daemon.address, "type": "Socket"}})
    elif daemon.tls:
        items = [{"key": f"{TLS_KEY}{item}", "path": item} for item, _ in daemon.tls]
        worker["volumeMounts"].append({"name": "tls", "mountPath": TLS, "readOnly": True})
        spec["volumes"].append(
            {"name": "tls", "secret": {"secretName": name, "defaultMode": 0o400, "items": items}}
        )
    return found


def _docker(site: Site, place: Place, image: str) -> Object:
    """The daemon. It listens at a socket that only its Pod sees; what it has is gone with the Pod."""
    command = ["dockerd", f"--host=unix://{DOCKER}/docker.sock", "--data-root=/var/lib/docker"]
    if urlsplit(site.server).scheme == "http" and site.registry:
        command.append(f"--insecure-registry={site.registry}")
    mounts = [
        {"name": "docker", "mountPath": DOCKER}, {"name": "images", "mountPath": "/var/lib/docker"},
    ]  # fmt: skip
    if site.authority:  # with the system's own, where every program looks for them
        mounts.append({"name": "keys", "mountPath": "/etc/ssl/certs/slipway.pem", "subPath": "ca.pem"})
    return {
        "name": DAEMON, "image": image, "imagePullPolicy": "IfNotPresent", "command": command,
        "env": [{"name": "PATH", "value": _PATH}], "resources": resources(place.limits),
        "terminationMessagePolicy": "FallbackToLogsOnError", "securityContext": {"privileged": True, "runAsUser": 0},
        "volumeMounts": mounts,
    }  # fmt: skip
