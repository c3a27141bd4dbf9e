"""What the builds of a project may use, and how they stand in the queue. Set by the platform's administrators."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from slipway.build.sandbox import Limits
from slipway.errors import Invalid

HOST_NETWORK = "network.host"
INSECURE = "security.insecure"
IN_PLACE = "pod.in-place"
# A device by its name in the Container Device Interface, a class of them, or a node.
_DEVICE = re.compile(
    r"device=(?:[a-z0-9][\w.-]*/[\w.-]+(?:=[\w.:*-]+)?|/dev/(?:[\w-][\w.:-]*/)*[\w-][\w.:-]*)"
)
ENTITLEMENTS = (HOST_NETWORK, INSECURE, IN_PLACE)


@dataclass(frozen=True, slots=True)
class BuildPolicy:
    """``None`` means the server's own setting.

    ``parallel`` is how many of the project's builds run at the same time (0: as many as there is room for).
    ``priority``: those of a project with a higher one go first. ``allow`` are the entitlements: ``network.host`` for
    RUN --network=host, ``security.insecure`` for RUN --security=insecure, ``device=NAME`` for RUN --device=NAME,
    ``pod.in-place`` for builds in Pods whose RUNs are the node's root, held as Docker does, where a cluster has no user
    namespaces.
    """

    cpus: float | None = None
    memory: int | None = None
    pids: int | None = None
    disk: int | None = None
    seconds: float | None = None
    parallel: int = 0
    priority: int = 0
    allow: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> Self:
        """What the database holds; fields of another version are passed over."""
        known = {field.name for field in fields(cls)}
        found = cls(**{name: item for name, item in (value or {}).items() if name in known})
        return replace(found, allow=tuple(found.allow))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "allow": sorted(self.allow)}

    def checked(self) -> Self:
        """Itself. Raises ``Invalid`` for values that make no sense."""
        for name in self.allow:
            if name not in ENTITLEMENTS and not _DEVICE.fullmatch(name):
                raise Invalid(
                    f"not an entitlement: {name[:60]!r}",
                    hint=f"one of {', '.join(ENTITLEMENTS)}, device=vendor.com/class=name or device=/dev/node",
                )
        for name in ("cpus", "memory", "pids", "disk", "seconds"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise Invalid(
                    f"{name} must be above 0, not {value}", hint="leave it out for the server's own"
                )
        if self.parallel < 0:
            raise Invalid("parallel must be 0 (no limit) or more")
        return self

    def limits(self, defaults: Limits) -> Limits:
        """The limits of one build."""
        given = {
            name: value
            for name in ("cpus", "memory", "pids", "disk", "seconds")
            if (value := getattr(self, name)) is not None
        }
        return replace(defaults, **given)
