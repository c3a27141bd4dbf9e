"""What one cluster runs of an app. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from slipway.compose import Project
from slipway.delivery.engine import AppRef, Wanted
from slipway.delivery.jobs import is_job
from slipway.delivery.placements import Placement
from slipway.delivery.releases import Release
from slipway.delivery.volumes import named_volumes
from slipway.engines.spread.shares import shares


def keeps_data(model: Project) -> bool:
    """Whether a service mounts a named volume: what is in it is on one cluster, and does not travel."""
    return bool(named_volumes(model))


def is_whole(model: Project) -> bool:
    """Whether all of it has to be on one cluster."""
    return keeps_data(model) or any(
        service.x_slipway.get("spread") is False for service in model.services.values()
    )


def has_jobs(model: Project) -> bool:
    return any(is_job(model, service) for service in model.services.values())


class Parts:
    """Remembers the releases it made, as engines keep what they render by a release's digest."""

    def __init__(self) -> None:
        self._jobless: dict[AppRef, tuple[str, Release]] = {}

    def of(self, app: AppRef, wanted: Wanted, cluster: str, placement: Placement) -> Wanted:
        """Jobs are at home only; elsewhere nothing waits for them, since home comes up first."""
        model = wanted.release.model
        if is_whole(model):
            return wanted
        release = wanted.release
        if cluster != placement.home and has_jobs(model):
            release = self._without_jobs(app, release)
        scale = {
            service.name: shares(wanted.replicas(service), placement.weights, f"{app}/{service.name}")[
                cluster
            ]
            for service in release.model.services.values()
        }
        return Wanted(release, scale)

    def _without_jobs(self, app: AppRef, release: Release) -> Release:
        known = self._jobless.get(app)
        if known is None or known[0] != release.digest:
            model = release.model
            stay = {name: service for name, service in model.services.items() if not is_job(model, service)}
            services = {
                name: replace(
                    service,
                    depends_on={key: value for key, value in service.depends_on.items() if key in stay},
                )
                for name, service in stay.items()
            }
            made = replace(
                release, model=replace(model, services=services), digest=f"{release.digest}-jobless"
            )
            known = self._jobless[app] = (release.digest, made)
        return known[1]

    def forget(self, apps: Mapping[AppRef, Wanted]) -> None:
        """Keep those of ``apps`` only."""
        for app in self._jobless.keys() - apps.keys():
            del self._jobless[app]


def larger(one: Wanted, other: Wanted) -> Wanted:
    """``one``, with as many instances as the larger of the two has."""
    return Wanted(
        one.release, {name: max(count, other.scale.get(name, 0)) for name, count in one.scale.items()}
    )
