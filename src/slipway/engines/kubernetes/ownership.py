"""What of a cluster is ours to write: what others made under a name that we need stays theirs."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.kinds import WORKLOADS
from slipway.engines.kubernetes.objects import Object
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.render import namespace_manifest
from slipway.errors import Conflict


def check_ours(found: Object, labels: Mapping[str, str]) -> None:
    """``labels``: what an object of ours carries, whoever else labels it. Raises ``Conflict`` without them."""
    metadata = found["metadata"]
    there = metadata.get("labels") or {}
    if all(there.get(key) == value for key, value in labels.items()):
        return
    kind, name, namespace = found["kind"], metadata["name"], metadata["namespace"]
    marks = " ".join(f"{key}={value}" for key, value in labels.items())
    raise Conflict(
        f"there is a {kind} {name} in the namespace {namespace} that somebody else made",
        hint="rename or remove it; or hand it over, to be changed, and removed with the app: "
        f"kubectl label --overwrite -n {namespace} {kind.lower()} {name} {marks}",
    )


async def take_namespace(client: PatientClient, project: str, name: str) -> None:
    """There is one, and it is the project's: it says so, or did not exist, or nothing runs in it.

    Raises ``Conflict`` for another's.
    """
    found = await client.get("Namespace", name)
    owner = (found["metadata"].get("labels") or {}).get(names.PROJECT) if found is not None else None
    if owner == project:
        return
    if owner is not None:
        raise Conflict(
            f"the namespace {name} is that of the project {owner!r}",
            hint="add the cluster with another --namespace-prefix",
        )
    if found is not None:
        for kind in ("Pod", *WORKLOADS):
            if await client.list(kind, name):
                raise Conflict(
                    f"the namespace {name} is in use by somebody else",
                    hint=f"if the project's apps are to be there, too: kubectl label namespace {name} "
                    f"{names.PROJECT}={project}; or add the cluster with another --namespace-prefix",
                )
    await client.apply(namespace_manifest(project, name))
