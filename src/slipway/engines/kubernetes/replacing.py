"""Objects of which a field never changes: another one takes their place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from slipway.engines.kubernetes.objects import Object
from slipway.engines.kubernetes.patient import PatientClient
from slipway.errors import Conflict, Failed, Invalid

# Fields that never change and that another release, or another version of ours, may want to change. Whatever else is
# refused stays refused, so that what serves stays. A Job is named by what it runs, a claim has somebody's data.
_FIXED: Mapping[str, tuple[str, ...]] = {
    "Service": ("spec.clusterIP", "spec.clusterIPs"),  # whether it has an address
    "StatefulSet": ("spec",),  # all but a few of its fields
    "ConfigMap": ("data", "immutable"),
    "Secret": ("data", "type", "immutable"),
}
_PAUSE = 0.2
_GONE_SECONDS = 60.0


def is_fixed(kind: str, refusal: Invalid) -> bool:
    """Whether the API server refused a change since the field never changes. An admission's words do not count."""
    fields = {cause["field"].partition("[")[0] for cause in refusal.context.get("causes", ())}
    return not fields.isdisjoint(_FIXED.get(kind, ()))


async def make_room(client: PatientClient, old: Object, wanted: Object) -> None:
    """Removes ``old`` once the cluster would take ``wanted`` as a new object; raises what it says if it would not.

    A StatefulSet's Pods go on, for the next one of its name.
    """
    await _try(client, wanted)
    await client.delete(old, "Orphan" if old["kind"] == "StatefulSet" else "Background")
    await _gone(client, old)


async def _try(client: PatientClient, wanted: Object) -> None:
    """Admission is through, and everything checked, when the name turns out to be taken."""
    try:
        await client.create(wanted, dry_run=True)
    except Conflict as error:
        if error.context.get("reason") != "AlreadyExists":
            raise


async def _gone(client: PatientClient, old: Object) -> None:
    metadata = old["metadata"]
    for _ in range(int(_GONE_SECONDS / _PAUSE)):
        found = await client.get(old["kind"], metadata["name"], metadata["namespace"])
        if found is None or found["metadata"]["uid"] != metadata["uid"]:
            return
        await asyncio.sleep(_PAUSE)
    raise Failed(
        f"{old['kind']} {metadata['name']} was to be replaced, and is not gone after {_GONE_SECONDS:g} s",
        hint=f"its metadata.finalizers say who is to let it go: {metadata.get('finalizers', [])}",
    )
