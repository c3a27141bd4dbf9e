"""What builds of a project that is removed have left in a cluster: the next project of its name must not find it."""

from __future__ import annotations

from slipway.build.pods.manifests import BUILDS, MANAGED, PROJECT, ROLE, SERVER, namespace_of
from slipway.kubernetes import ClusterClient

_KINDS = ("Pod", "Secret", "PersistentVolumeClaim")


async def remove_builds(client: ClusterClient, project: str, mark: str) -> None:
    """Its builds' namespaces, with what its steps kept; where another server builds, too, only what is ``mark``'s.

    They may be there for a moment after the return; until they are gone nothing is built in them. Idempotent.
    """
    names = {namespace_of(project), namespace_of(project, docker=True)}
    chosen = {MANAGED: "slipway", ROLE: BUILDS, PROJECT: project[:63]}
    for found in (await client.list("Namespace", None, chosen)).items:
        if found["metadata"]["name"] in names:
            await _remove(client, found["metadata"]["name"], found["metadata"]["uid"], mark)


async def _remove(client: ClusterClient, namespace: str, uid: str, mark: str) -> None:
    left = [item for kind in _KINDS for item in (await client.list(kind, namespace, SERVER)).items]
    own = [item for item in left if item["metadata"]["labels"][SERVER] == mark]
    if len(own) == len(left):
        await client.delete("Namespace", namespace, uid=uid)
        return
    for item in own:
        await client.delete(item["kind"], item["metadata"]["name"], namespace, uid=item["metadata"]["uid"])
