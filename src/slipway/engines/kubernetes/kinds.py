"""Which kind of workload a service becomes."""

from __future__ import annotations

from typing import Literal

from slipway.compose import Project, Service
from slipway.delivery.jobs import is_job

Workload = Literal["Deployment", "StatefulSet", "Job"]
WORKLOADS: tuple[Workload, ...] = ("Deployment", "StatefulSet", "Job")


def workload_of(model: Project, service: Service) -> Workload:
    if is_job(model, service):
        return "Job"
    return "StatefulSet" if service.stateful else "Deployment"
