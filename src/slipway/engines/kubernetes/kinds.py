"""Which kind of workload a service becomes."""

from __future__ import annotations

from typing import Literal

from slipway.compose import Project, Service

Workload = Literal["Deployment", "StatefulSet", "Job"]
WORKLOADS: tuple[Workload, ...] = ("Deployment", "StatefulSet", "Job")


def is_job(model: Project, service: Service) -> bool:
    """Others wait until it has completed, or it says so itself (``x-slipway: {job: true}``)."""
    return bool(service.x_slipway.get("job")) or any(
        name == service.name and depends.condition == "service_completed_successfully"
        for other in model.services.values()
        for name, depends in other.depends_on.items()
    )


def workload_of(model: Project, service: Service) -> Workload:
    if is_job(model, service):
        return "Job"
    return "StatefulSet" if service.stateful else "Deployment"
