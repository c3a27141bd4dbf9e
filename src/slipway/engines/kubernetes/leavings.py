"""What is left in a cluster of a project that has no apps any more."""

from __future__ import annotations

from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.objects import CLAIM
from slipway.engines.kubernetes.observed import OURS, is_ours
from slipway.engines.kubernetes.pulls import PULL, is_in_ours
from slipway.errors import Conflict
from slipway.kubernetes import ClusterClient


async def check_volumes(client: ClusterClient, prefix: str, project: str) -> None:
    """Raises ``Conflict`` for volumes that removed apps have left: apps of the next project would have their data."""
    claims = (await client.list(CLAIM, None, f"{OURS},{names.PROJECT}={project}")).items
    mine = [item["metadata"] for item in claims if is_ours(item, prefix)]
    if mine:
        raise Conflict(
            f"volumes of apps that were removed are left: {', '.join(item['name'] for item in mine)}",
            hint=f"they go with kubectl delete pvc -n {mine[0]['namespace']} -l {names.PROJECT}={project}",
        )


async def remove_pull_secrets(client: ClusterClient, prefix: str, project: str) -> None:
    """The robots in them end with the project. Idempotent."""
    for item in (await client.list("Secret", None, {PULL: "true", names.PROJECT: project})).items:
        metadata = item["metadata"]
        if is_in_ours(item, prefix):
            await client.delete("Secret", metadata["name"], metadata["namespace"], uid=metadata["uid"])
