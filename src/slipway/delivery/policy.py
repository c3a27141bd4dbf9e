"""What the apps of a project may have beyond ordinary containers. Set by the platform's administrators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from slipway.base import capabilities
from slipway.compose import Project, Refusal
from slipway.errors import Invalid

ALL = "ALL"


@dataclass(frozen=True, slots=True)
class AppPolicy:
    """``capabilities`` are those that ``cap_add`` may name besides Docker's default ones, without ``CAP_``; ``ALL`` is
    each of them. With some of them a container's root is the machine's or the node's, and so every project's."""

    capabilities: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> Self:
        """What the database holds; fields of another version are passed over."""
        return cls(tuple((value or {}).get("capabilities", ())))

    def to_json(self) -> dict[str, Any]:
        return {"capabilities": sorted(self.capabilities)}

    def checked(self) -> Self:
        """Itself, with names as the kernel's list has them, each once. Raises ``Invalid`` for what is no capability."""
        names = tuple(dict.fromkeys(map(_plain, self.capabilities)))
        for name in names:
            if name not in (*capabilities.NAMES, ALL):
                raise Invalid(f"unknown capability {name[:40]!r}", hint="e.g. NET_ADMIN, or ALL")
        return type(self)(names)

    def refusals(self, model: Project) -> list[Refusal]:
        """What ``model`` wants and may not have."""
        may = {*capabilities.DEFAULT, *self.capabilities}
        found = []
        for service in model.services.values():
            for name in map(_plain, service.cap_add):
                if name not in may and ALL not in may:
                    place = ("services", service.name, "cap_add")
                    hint = f"an administrator grants it: slipway project app-policy PROJECT --allow {name}"
                    found.append(Refusal(place, f"is not granted to the project's apps: {name}", hint))
        return found


PolicyOf = Callable[[str], Awaitable[AppPolicy]]


async def ordinary(_project: str) -> AppPolicy:
    """Of every project where nobody grants anything."""
    return AppPolicy()


def _plain(name: str) -> str:
    return name.upper().removeprefix("CAP_")
