"""Whether our account in a cluster may do what Slipway does there."""

from __future__ import annotations

import asyncio

from slipway.errors import SlipwayError
from slipway.kubernetes import ClusterClient

# verb, group, resource: one of each kind of work; who may do these may as a rule do the rest.
_NEEDED = (
    ("create", "", "namespaces"),
    ("list", "", "nodes"),
    ("create", "", "pods"),
    ("get", "", "pods/log"),
    ("patch", "apps", "deployments"),
    ("patch", "", "secrets"),
    ("patch", "networking.k8s.io", "networkpolicies"),
    ("delete", "", "persistentvolumeclaims"),
)


async def missing(client: ClusterClient) -> list[str]:
    """What it may not, e.g. ``create namespaces``. Empty for an account that may do everything."""
    if await _allowed(client, "*", "*", "*"):
        return []
    answers = await asyncio.gather(*(_allowed(client, *needed) for needed in _NEEDED))
    return [
        f"{verb} {resource}"
        for (verb, _, resource), allowed in zip(_NEEDED, answers, strict=True)
        if not allowed
    ]


async def _allowed(client: ClusterClient, verb: str, group: str, resource: str) -> bool:
    resource, _, subresource = resource.partition("/")
    wanted = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }
    try:
        return bool((await client.create(review)).get("status", {}).get("allowed"))
    except SlipwayError:
        return False
