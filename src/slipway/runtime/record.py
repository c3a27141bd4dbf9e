"""A container as it is now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from slipway.runtime.spec import ContainerSpec

State = Literal["creating", "created", "running", "exited", "removing"]


@dataclass(slots=True)
class Container:
    """The record on disk; ``health`` lives in memory only. Times are seconds since the epoch."""

    id: str
    spec: ContainerSpec
    state: State = "creating"
    pid: int = 0
    pid_start: str = ""
    exit_code: int | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    dns: str = ""
    created: float = 0
    started: float = 0
    finished: float = 0
    restarts: int = 0
    wanted: bool = False
    health: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def address(self) -> str:
        return next(iter(self.addresses.values()), "")

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__slots__ if name not in ("spec", "health")}
        return {**found, "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Container:
        return cls(**{**value, "spec": ContainerSpec.from_json(value["spec"])})
