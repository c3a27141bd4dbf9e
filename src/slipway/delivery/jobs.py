"""Which services are jobs: they run once for a release and end. And which may be."""

from __future__ import annotations

from slipway.compose import Project, Service


def is_job(model: Project, service: Service) -> bool:
    """Others wait until it has completed, or it says so itself (``x-slipway: {job: true}``)."""
    return bool(service.x_slipway.get("job")) or any(
        name == service.name and depends.condition == "service_completed_successfully"
        for other in model.services.values()
        for name, depends in other.depends_on.items()
    )


def may_end(service: Service) -> bool:
    """Whether an instance that ended with exit code 0 has done its work, rather than stopped doing it."""
    once = service.restart == "no" or service.restart.startswith("on-failure")
    return once and not service.ports
