"""What builds in Pods need of the rest of the house: clusters, the worker's image, where the server is."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from slipway.app.images import LIBRARY
from slipway.app.own_images import OwnImages
from slipway.app.settings import Settings
from slipway.app.tls import authority_certificate
from slipway.build.own_image import DOCKER
from slipway.build.pods.image import WORKER
from slipway.build.pods.manifests import Site
from slipway.build.pods.volumes import CacheVolume
from slipway.errors import Denied, Invalid, Unavailable
from slipway.fleet import Clusters
from slipway.kubernetes import ClusterClient

_USER_NAMESPACES = (1, 33)
"""From which version on a Pod may ask for a user namespace of its own. Whether it starts is up to its node."""
_ASK_AGAIN_SECONDS = 300.0


class BuildClusters:
    """``slipway.build.pods.launcher.Clusters`` over the fleet."""

    def __init__(self, settings: Settings, clusters: Clusters, images: OwnImages, mark: str) -> None:
        self._settings = settings
        self._clusters = clusters
        self._images = images
        self._mark = mark
        self._user_namespaces: dict[str, tuple[bool, float]] = {}

    @property
    def volume(self) -> CacheVolume | None:
        settings = self._settings
        size = settings["kubernetes.cache_volume"]
        shared = settings["kubernetes.cache_shared"]
        return CacheVolume(size, settings["kubernetes.cache_class"], shared) if size else None

    async def choose(self, project: str, cluster: str) -> str:
        if cluster:
            return cluster
        found = [item for item in await self._clusters.of(project) if item.weight]
        if not found:
            raise Invalid(
                f"the project {project!r} has no cluster to build on",
                hint=f"slipway cluster bind CLUSTER --project {project}",
            )
        return max(found, key=lambda item: item.weight).cluster

    async def client(self, cluster: str) -> ClusterClient:
        return await self._clusters.client(cluster)

    async def docker_image(self, cluster: str) -> str:
        repository, digest = await self._images.ensure_packaged(DOCKER)
        return f"{self._registry}/{repository}@{digest}"

    @property
    def _registry(self) -> str:
        """HOST:PORT by which nodes pull."""
        parts = urlsplit(self._settings["kubernetes.server"] or self._settings.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return str(self._settings["kubernetes.registry"] or f"{parts.hostname}:{port}")

    async def names(self) -> Sequence[str]:
        return [item.name for item in await self._clusters.all()]

    async def site(self, cluster: str) -> Site:
        settings = self._settings
        server = settings["kubernetes.server"] or settings.url
        parts = urlsplit(server)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        authority = authority_certificate(settings)
        _, digest = await self._images.ensure(WORKER)
        return Site(
            f"{self._registry}/{LIBRARY}/{WORKER.name}@{digest}", server, await _addresses(parts.hostname or "", port),
            self._mark, settings["kubernetes.egress"], settings["kubernetes.egress_except"],
            await asyncio.to_thread(authority.read_bytes) if authority is not None else b"",
            not await self._has_user_namespaces(cluster), self.volume, self._registry,
        )  # fmt: skip

    async def _has_user_namespaces(self, cluster: str) -> bool:
        """Clusters are upgraded and get other nodes, so the answer is good for some minutes, or until there is another.

        Raises ``Unavailable`` while there is none yet.
        """
        known = self._user_namespaces.get(cluster)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        client = await self.client(cluster)
        try:
            found = has_user_namespaces(await client.version()) and await _nodes_have_them(client)
        except Unavailable:
            if known is None:
                raise
            return known[0]
        self._user_namespaces[cluster] = found, time.monotonic() + _ASK_AGAIN_SECONDS
        return found


async def _nodes_have_them(client: ClusterClient) -> bool:
    """Whether each node that Pods may come to has a runtime with user namespaces: others refuse a Pod that asks."""
    try:
        nodes = (await client.list("Node", None, {"kubernetes.io/os": "linux"})).items
    except Denied:
        return False
    usable = [node for node in nodes if not node.get("spec", {}).get("unschedulable")]
    return bool(usable) and all(node_has_user_namespaces(node) for node in usable)


def node_has_user_namespaces(node: Mapping[str, Any]) -> bool:
    """Whether its runtime's default handler, which has no name, says so; older nodes say nothing."""
    return any(
        not handler.get("name") and (handler.get("features") or {}).get("userNamespaces") is True
        for handler in node.get("status", {}).get("runtimeHandlers") or ()
    )


def has_user_namespaces(version: str) -> bool:
    """Whether Pods of a cluster of this version (``v1.33.1``) may ask for one of their own."""
    return _numbers(version) >= _USER_NAMESPACES


async def _addresses(host: str, port: int) -> tuple[tuple[str, int], ...]:
    """Where a name leads, for network policies, which know addresses only. Raises ``Invalid``."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Invalid(
            f"kubernetes.server: {host} is no address: {error.strerror}",
            hint="set the URL by which Pods reach this server",
        ) from error
    return tuple(sorted({(str(item[4][0]), port) for item in found}))


def _numbers(version: str) -> tuple[int, int]:
    found = re.match(r"v(\d{1,6})\.(\d{1,6})", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
