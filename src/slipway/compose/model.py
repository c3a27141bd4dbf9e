"""The model of an app, as its Compose files say it.

As JSON a model holds only what differs from the defaults. So a field that a later version adds changes neither the
text nor the digest of what an earlier version stored, and a field that this version does not know is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Build:
    """``context`` is relative to the app's source; ``dockerfile`` to the context."""

    context: str
    dockerfile: str = "Dockerfile"
    inline: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Port:
    """``published`` is 0 when only the container's port was given."""

    target: int
    published: int = 0
    protocol: str = "tcp"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """``kind`` volume: ``source`` is a named volume (empty: anonymous); bind: a path; tmpfs: none."""

    target: str
    kind: str
    source: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class DependsOn:
    condition: str = "service_started"
    required: bool = True


@dataclass(frozen=True, slots=True)
class HealthTest:
    """``test`` as Compose has it (``CMD``, ``CMD-SHELL`` or ``NONE`` first); times in seconds."""

    test: tuple[str, ...]
    interval: float = 30
    timeout: float = 30
    retries: int = 3
    start_period: float = 0
    start_interval: float = 5


@dataclass(frozen=True, slots=True)
class NetworkUse:
    """A service on a network, where it also answers to ``aliases``."""

    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """``internal``: nothing on it reaches what lies outside."""

    internal: bool = False


@dataclass(frozen=True, slots=True)
class FileMount:
    """A config or a secret, by name, as a file at the absolute path ``target``. ``mode``: permission bits."""

    source: str
    target: str
    mode: int = 0o444


@dataclass(frozen=True, slots=True)
class Service:
    """One service. ``command`` and ``entrypoint`` are ``None`` when the image's are to be used."""

    name: str
    image: str = ""
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    depends_on: Mapping[str, DependsOn] = field(default_factory=dict)
    healthcheck: HealthTest | None = None
    restart: str = "no"
    replicas: int = 1
    cpus: float = 0
    memory: int = 0
    pids: int = 0
    order: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    stop_signal: str = ""
    stop_grace_period: float = 10
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    tmpfs: tuple[str, ...] = ()
    expose: tuple[int, ...] = ()
    networks: Mapping[str, NetworkUse] = field(default_factory=dict)
    configs: tuple[FileMount, ...] = ()
    secrets: tuple[FileMount, ...] = ()
    shm_size: int = 0
    cpus_reserved: float = 0
    memory_reserved: int = 0
    x_slipway: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stateful(self) -> bool:
        """Whether two instances at a time would write the same volume."""
        return any(item.kind == "volume" and item.source and not item.read_only for item in self.volumes)

    @property
    def start_first(self) -> bool:
        """Whether a new instance is started next to the old one. Writers of a volume take turns unless told."""
        order = self.x_slipway.get("order") or self.order
        return order == "start-first" if order else not self.stateful


@dataclass(frozen=True, slots=True)
class Project:
    """A whole app. Services are in the order of their dependencies; ``configs`` and ``secrets`` by name: their text.

    ``volume_sizes``: of volumes that say theirs (``x-slipway: {size: 10g}``), in bytes.
    """

    name: str
    services: Mapping[str, Service]
    volumes: tuple[str, ...] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    volume_sizes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Lossless; see the module."""
        found: dict[str, Any] = _plain(self)
        return found

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Project:
        services = {name: _service(item) for name, item in value["services"].items()}
        networks = {
            name: Network(**_known(Network, item)) for name, item in value.get("networks", {}).items()
        }
        return cls(
            value["name"], services, tuple(value.get("volumes", ())), value.get("extensions", {}), networks,
            value.get("configs", {}), value.get("secrets", {}), value.get("volume_sizes", {}),
        )  # fmt: skip


def _plain(value: Any) -> Any:
    """JSON's types, without fields that have their default."""
    if is_dataclass(value) and not isinstance(value, type):
        present = {item.name: getattr(value, item.name) for item in fields(value)}
        return {
            item.name: _plain(present[item.name])
            for item in fields(value)
            if present[item.name] != _default(item)
        }
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _default(item: Any) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _known(cls: type[T], value: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    return {
        key: tuple(item) if isinstance(item, list) else item for key, item in value.items() if key in names
    }


def _service(value: Mapping[str, Any]) -> Service:
    found = _known(Service, value)
    if "x_slipway" in value:
        found["x_slipway"] = value["x_slipway"]
    if found.get("build"):
        found["build"] = Build(**_known(Build, value["build"]))
    if found.get("healthcheck"):
        found["healthcheck"] = HealthTest(**_known(HealthTest, value["healthcheck"]))
    found["ports"] = tuple(Port(**_known(Port, item)) for item in value.get("ports", ()))
    found["volumes"] = tuple(VolumeMount(**_known(VolumeMount, item)) for item in value.get("volumes", ()))
    for key in ("configs", "secrets"):
        found[key] = tuple(FileMount(**_known(FileMount, item)) for item in value.get(key, ()))
    uses = value.get("networks", {})
    found["networks"] = {name: NetworkUse(**_known(NetworkUse, item)) for name, item in uses.items()}
    depends = value.get("depends_on", {})
    found["depends_on"] = {name: DependsOn(**_known(DependsOn, item)) for name, item in depends.items()}
    return Service(**found)
