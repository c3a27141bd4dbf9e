"""What builds of a project that is removed have left in a cluster: the next project of its name must not find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.build.pods.manifests import BUILDS, MANAGED, PROJECT, ROLE, SERVER, namespace_of
from slipway.kubernetes import ClusterClient

_KINDS = ("Pod", "Secret", "PersistentVolumeClaim")


async def remove_builds(client: ClusterClient, project: str, mark: str) -> None:
    """Its builds' namespaces, with what its steps kept; of one where another server builds, too, or that somebody else
    made and labelled for them, only what is ``mark``'s.

    They may be there for a moment after the return; until they are gone nothing is built in them. Idempotent.
    """
    names = {namespace_of(project), namespace_of(project, docker=True)}
    chosen = {ROLE: BUILDS, PROJECT: project[:63]}
    for found in (await client.list("Namespace", None, chosen)).items:
        if found["metadata"]["name"] in names:
            await _remove(client, found["metadata"], mark)


async def _remove(client: ClusterClient, home: Mapping[str, Any], mark: str) -> None:
    namespace = home["name"]
    left = [item for kind in _KINDS for item in (await client.list(kind, namespace, SERVER)).items]
    own = [item for item in left if item["metadata"]["labels"][SERVER] == mark]
    if len(own) == len(left) and home["labels"].get(MANAGED) == "slipway":
        await client.delete("Namespace", namespace, uid=home["uid"])
        return
    for item in own:
        await client.delete(item["kind"], item["metadata"]["name"], namespace, uid=item["metadata"]["uid"])
