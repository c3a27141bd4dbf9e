"""From a release to manifests. Pure: the same release, setting and namespace give the same text.

The table of what each Compose key becomes is in docs/kubernetes.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.delivery.engine import AppRef, Wanted
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.limits import refusals
from slipway.engines.kubernetes.render_files import files, volumes
from slipway.engines.kubernetes.render_network import ingresses, policies, services
from slipway.engines.kubernetes.render_workloads import workload
from slipway.engines.kubernetes.setting import Setting


def manifests(
    app: AppRef,
    wanted: Wanted,
    setting: Setting,
    *,
    namespace: str = "",
    renewed: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Everything of the app but its namespace and its pull secret, in an order in which it can be applied.

    ``namespace``: the project's if empty. ``renewed``: by service, a text that is another one after each restart.
    Raises ``Invalid`` for what ``refusals`` names.
    """
    model = wanted.release.model
    for refusal in refusals(model):
        raise refusal.error()
    version = str(wanted.release.number)
    stamps = renewed or {}
    found = [
        *policies(app, model, version),
        *files(app, model, version),
        *volumes(app, model, setting),
        *services(app, model, version),
        *(
            workload(app, wanted, service, setting, stamps.get(name, ""))
            for name, service in model.services.items()
        ),
        *ingresses(app, model, version, setting),
    ]
    place = namespace or names.namespace_name(setting.prefix, app.project)
    return [names.stamped(_placed(item, place)) for item in found]


def namespace_manifest(project: str, name: str) -> dict[str, Any]:
    labels = {names.MANAGED: names.MANAGER, names.PROJECT: project}
    return names.stamped(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )


def _placed(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
