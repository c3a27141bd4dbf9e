"""What runs an app: the Protocol every engine implements."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slipway.compose import Service
from slipway.delivery.releases import Release


@dataclass(frozen=True, slots=True)
class AppRef:
    project: str
    name: str

    def __str__(self) -> str:
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy of a service. ``config`` is the digest of what it was started from."""

    id: str
    service: str
    release: int
    replica: int
    config: str
    running: bool
    health: str = ""
    address: str = ""
    restarts: int = 0
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class LogRecord:
    instance: str
    service: str
    stream: str
    time: str
    text: str


class Engine(Protocol):
    """Starts, shows and ends instances of services.

    Life of an instance: ``start`` → ``ready`` → in ``publish``'s targets → out of them → ``drain`` → ``stop`` →
    ``remove``. Every call is idempotent, and an engine keeps no memory that a restart could lose: ``instances`` tells
    the truth from what really runs. Example: a rollout of one service is ``start`` the new, ``ready``, ``publish`` the
    new, ``drain`` and ``remove`` the old.
    """

    async def prepare(self, app: AppRef, release: Release) -> None:
        """Everything slow that needs nothing stopped: networks, volumes, unpacked images."""
        ...

    async def start(self, app: AppRef, release: Release, service: Service, replica: int) -> Instance:
        """Raises ``Failed`` when it cannot even be started; nothing is left then."""
        ...

    async def ready(self, app: AppRef, instance: Instance, service: Service, timeout: float) -> Instance:
        """Wait until it can take work. Raises ``Failed`` with its last lines otherwise; it is left for a look."""
        ...

    async def completed(self, app: AppRef, instance: Instance, timeout: float) -> None:
        """Wait until it ended with exit code 0. Raises ``Failed``."""
        ...

    async def instances(self, app: AppRef) -> list[Instance]: ...

    async def publish(self, app: AppRef, targets: Mapping[str, tuple[Service, Sequence[Instance]]]) -> None:
        """Make exactly these instances answer for the app's published services."""
        ...

    async def drain(self, app: AppRef, instance: Instance, timeout: float) -> None:
        """Wait until an unpublished instance has no request left, at most ``timeout`` seconds."""
        ...

    async def stop(self, app: AppRef, instance: Instance) -> None: ...

    async def revive(self, app: AppRef, instance: Instance) -> None:
        """Start a stopped instance again."""
        ...

    async def remove(self, app: AppRef, instance: Instance) -> None: ...

    def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]: ...

    def urls(self, app: AppRef, service: Service) -> list[str]: ...

    async def remove_app(self, app: AppRef, volumes: bool) -> None:
        """What is left of an app without instances: routes, networks, and its ``volumes`` if asked."""
        ...
