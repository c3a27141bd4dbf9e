"""What must change for a release to run. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from slipway.compose import Service
from slipway.delivery.engine import Instance
from slipway.delivery.jobs import may_end
from slipway.delivery.releases import Release


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service: the instances that stay, the replicas to start, the instances to end."""

    service: Service
    keep: tuple[Instance, ...]
    start: tuple[int, ...]
    end: tuple[Instance, ...]

    @property
    def unchanged(self) -> bool:
        return not self.start and not self.end

    def describe(self) -> str:
        if self.unchanged:
            return f"{self.service.name}: unchanged"
        how = "next to" if self.service.start_first else "after"
        return f"{self.service.name}: start {len(self.start)} {how} ending {len(self.end)}, keep {len(self.keep)}"


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """All services in the order of their dependencies, and instances of services that are no more."""

    services: tuple[ServicePlan, ...]
    orphans: tuple[Instance, ...]

    @property
    def instances(self) -> tuple[Instance, ...]:
        """What ran when this was planned, orphans aside."""
        return tuple(instance for item in self.services for instance in (*item.keep, *item.end))

    @property
    def unchanged(self) -> bool:
        return not self.orphans and all(item.unchanged for item in self.services)

    def describe(self) -> list[str]:
        lines = [item.describe() for item in self.services]
        return lines + [f"{item.service}: end {item.id}" for item in self.orphans]


def plan(
    release: Release, scale: Mapping[str, int], observed: Sequence[Instance], renew: Collection[str] = ()
) -> RolloutPlan:
    """Instances whose configuration is what the release wants are kept, whatever release started them.

    Of the services in ``renew`` none is kept.
    """
    services = []
    for service in release.model.services.values():
        wanted = scale.get(service.name, service.replicas)
        config = release.config_of(service)
        mine = sorted(
            (item for item in observed if item.service == service.name), key=lambda item: item.replica
        )
        right = [item for item in mine if item.config == config and service.name not in renew]
        good = [item for item in right if item.running] + [item for item in right if _done(item, service)]
        keep, surplus = good[:wanted], good[wanted:]
        end = [item for item in mine if item not in good] + surplus
        taken = {item.replica for item in keep}
        free = (number for number in range(1, wanted + len(mine) + 1) if number not in taken)
        start = tuple(next(free) for _ in range(wanted - len(keep)))
        services.append(ServicePlan(service, tuple(keep), start, tuple(end)))
    orphans = tuple(item for item in observed if item.service not in release.model.services)
    return RolloutPlan(tuple(services), orphans)


def _done(instance: Instance, service: Service) -> bool:
    """A one-off job that has ended well needs no second run."""
    return not instance.running and instance.exit_code == 0 and may_end(service)
