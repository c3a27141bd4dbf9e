"""Taking an app away from the cluster."""

from __future__ import annotations

import asyncio

from slipway.base.progress import Progress
from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.kinds import WORKLOADS
from slipway.engines.kubernetes.objects import CLAIM, difference
from slipway.engines.kubernetes.observed import Observed
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.record import Records
from slipway.engines.kubernetes.writing import Writer
from slipway.errors import Failed

_PAUSE = 0.5
_END_SECONDS = 300.0


async def take_away(
    client: PatientClient,
    records: Records,
    app: AppRef,
    observed: Observed,
    volumes: bool,
    progress: Progress,
) -> None:
    """Idempotent; the record goes last. Raises ``Conflict`` while another controller changes the app."""
    if not observed.namespace:
        return
    if observed.record is None and not volumes and difference([], observed.objects).none:
        return
    async with records.held(client, app, observed.namespace, observed.move, 0) as holding:
        writer = Writer(client, holding, observed)
        await writer.remove(difference([], observed.objects).prune)
        for key in observed.objects:
            if key.kind in WORKLOADS:
                service = observed.objects[key]["metadata"]["labels"].get(names.SERVICE, "")
                progress({"event": "service.state", "service": service, "state": "stopped", "instance": ""})
        await _ended(client, app, holding.record.namespace)
        if volumes:
            await writer.remove(item for key, item in observed.objects.items() if key.kind == CLAIM)
        await records.delete(client, app, holding)


async def _ended(client: PatientClient, app: AppRef, namespace: str) -> None:
    """Until the last Pod is gone: what is delivered next may need what it holds."""
    for _ in range(int(_END_SECONDS / _PAUSE)):
        if not await client.list("Pod", namespace, names.app_labels(app)):
            return
        await asyncio.sleep(_PAUSE)
    raise Failed(
        f"instances of {app} did not end within {_END_SECONDS:g} s",
        hint=f"kubectl -n {namespace} get pods shows them; their nodes may be gone",
    )
