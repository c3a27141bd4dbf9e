"""Which namespace an app is in."""

from __future__ import annotations

from slipway.compose import Project
from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.observed import Observed
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.setting import Setting
from slipway.errors import Conflict


async def place_of(
    client: PatientClient, app: AppRef, model: Project, observed: Observed, setting: Setting
) -> str:
    """Its project's, unless another app there has a service of the same name: then one of its own.

    A service is reached by its own name, and a name is there once in a namespace. An app stays where it is: its
    volumes are there. Raises ``Conflict`` when it would have to move.
    """
    shared = names.namespace_name(setting.prefix, app.project)
    place = observed.namespace or shared
    wanted = set(model.services) | {
        alias for item in model.services.values() for use in item.networks.values() for alias in use.aliases
    }
    taken = {
        item["metadata"]["name"]: item["metadata"].get("labels", {}).get(names.APP, "")
        for item in await client.list("Service", place)
    }
    clashes = sorted(name for name in wanted if taken.get(name, app.name) != app.name)
    if not clashes:
        return place
    if not observed.namespace:
        return names.own_namespace_name(setting.prefix, app)
    holder = taken[clashes[0]] or "somebody else"
    raise Conflict(
        f"the name {clashes[0]!r} is taken by {holder} in the namespace {place}",
        hint="give the service another name, or deliver the app under another name: it gets a namespace of its own",
    )
