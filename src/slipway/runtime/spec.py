"""What a container is to be, as values that survive as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Mount:
    """``kind`` bind: ``source`` is a path on the host; volume: the same, filled from the image at first; tmpfs."""

    target: str
    source: str = ""
    kind: Literal["bind", "volume", "tmpfs"] = "bind"
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits; 0 is none. ``memory`` in bytes."""

    cpus: float = 0
    memory: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    mode: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    max_retries: int = 0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Docker's meaning; all times in seconds. ``test`` is the command itself."""

    test: tuple[str, ...]
    interval: float = 30
    timeout: float = 30
    retries: int = 3
    start_period: float = 0
    start_interval: float = 5


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    network: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything that makes a container. ``chain`` is the unpacked image, ``argv`` what runs in it."""

    name: str
    image: str
    chain: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    resources: Resources = Resources()
    networks: tuple[NetworkRequest, ...] = ()
    restart: RestartPolicy = RestartPolicy()
    health: HealthCheck | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    stop_timeout: float = 10
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ContainerSpec:
        found = dict(value)
        found["argv"] = tuple(value["argv"])
        found["env"] = tuple((name, text) for name, text in value["env"])
        found["mounts"] = tuple(Mount(**item) for item in value["mounts"])
        found["resources"] = Resources(**value["resources"])
        found["networks"] = tuple(
            NetworkRequest(item["network"], tuple(item["aliases"])) for item in value["networks"]
        )
        found["restart"] = RestartPolicy(**value["restart"])
        health = value["health"]
        found["health"] = HealthCheck(**{**health, "test": tuple(health["test"])}) if health else None
        found["extra_hosts"] = tuple((name, text) for name, text in value["extra_hosts"])
        found["cap_add"], found["cap_drop"] = tuple(value["cap_add"]), tuple(value["cap_drop"])
        return cls(**found)
