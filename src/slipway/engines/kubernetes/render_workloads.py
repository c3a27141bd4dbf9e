"""Deployments, StatefulSets and Jobs."""

from __future__ import annotations

import math
from typing import Any

from slipway.compose import Service
from slipway.delivery.engine import AppRef, Wanted
from slipway.delivery.rollout import patience
from slipway.engines.kubernetes.kinds import workload_of
from slipway.engines.kubernetes.names import digest_of, object_labels, object_name, service_labels
from slipway.engines.kubernetes.render_pod import template
from slipway.engines.kubernetes.setting import Setting

# What the cluster has to do before a Pod's own start: find it a node, pull its image.
PULL_SECONDS = 120


def limit_of(service: Service) -> float:
    """How long a service may take until all its instances of a release are ready, in seconds."""
    return patience(service) + (0 if "deploy_timeout" in service.x_slipway else PULL_SECONDS)


def workload(app: AppRef, wanted: Wanted, service: Service, setting: Setting, renewed: str) -> dict[str, Any]:
    kind = workload_of(wanted.release.model, service)
    make = {"Deployment": _deployment, "StatefulSet": _stateful_set, "Job": _job}[kind]
    return make(app, wanted, service, setting, renewed)


def _metadata(app: AppRef, wanted: Wanted, service: Service) -> dict[str, Any]:
    labels = object_labels(app, str(wanted.release.number), service.name)
    return {"name": object_name(app.name, service.name), "labels": labels}


def _deployment(
    app: AppRef, wanted: Wanted, service: Service, setting: Setting, renewed: str
) -> dict[str, Any]:
    """New next to old, or, one after the other, old before new."""
    rolling = (
        {"maxSurge": "25%", "maxUnavailable": 0}
        if service.start_first
        else {"maxSurge": 0, "maxUnavailable": 1}
    )
    spec: dict[str, Any] = {
        "replicas": wanted.replicas(service),
        "selector": {"matchLabels": service_labels(app, service.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "progressDeadlineSeconds": math.ceil(limit_of(service)) + 1,
        "revisionHistoryLimit": 2,
        "template": template(app, wanted.release, service, setting, "Always", renewed),
    }
    if not service.ports and service.healthcheck is None:
        spec["minReadySeconds"] = 1  # nothing asks it, so that it still runs has to say it all
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(app, wanted, service),
        "spec": spec,
    }


def _stateful_set(
    app: AppRef, wanted: Wanted, service: Service, setting: Setting, renewed: str
) -> dict[str, Any]:
    """Its claims are the app's volumes, which services may share, and not templates of its own."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(app, wanted, service),
        "spec": {
            "replicas": wanted.replicas(service),
            "serviceName": service.name,
            "podManagementPolicy": "Parallel",
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": service_labels(app, service.name)},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": template(app, wanted.release, service, setting, "Always", renewed),
        },
    }


def _job(app: AppRef, wanted: Wanted, service: Service, setting: Setting, renewed: str) -> dict[str, Any]:
    """Named by what it runs: a Job runs once, so another image or command is another Job."""
    mode, _, count = service.restart.partition(":")
    again = int(count) if count else {"no": 0, "on-failure": 6}.get(mode, 1000)
    made = template(app, wanted.release, service, setting, "Never", renewed)
    metadata = _metadata(app, wanted, service)
    # All of what runs, and nothing of which release it is.
    of_what = digest_of([wanted.release.config_of(service), renewed])[:10]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "name": f"{metadata['name']}-{of_what}"},
        "spec": {"backoffLimit": again, "parallelism": 1, "completions": 1, "template": made},
    }
