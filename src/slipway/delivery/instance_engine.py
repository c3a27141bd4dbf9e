"""What starts and ends single instances: the Protocol under delivery's own rollout."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from slipway.compose import Project, Refusal, Service
from slipway.delivery.commands import Command
from slipway.delivery.engine import AppRef, Instance, LogRecord
from slipway.delivery.releases import Release


class InstanceEngine(Protocol):
    """Starts, shows and ends instances of services.

    Life of an instance: ``start`` → ``ready`` → in ``publish``'s targets → out of them → ``drain`` → ``stop`` →
    ``remove``. Every call but ``start`` is idempotent, one for an instance that is gone included, and an engine keeps
    no memory that a restart could lose: ``instances`` tells the truth from what really runs, and publishing one app
    leaves the others' routes as they are. Calls for different apps may come at the same time; for one app the caller
    puts them in order, but for ``start`` and ``ready`` of several instances. Example: a rollout of one service is
    ``start`` the new, ``ready``, ``publish`` the new, ``drain`` and ``remove`` the old. The suite that every engine
    passes is ``slipway.testing.engines``. ``Stepwise`` makes an ``Engine`` of it, which moves whole releases.
    """

    def refusals(self, model: Project) -> Sequence[Refusal]:
        """What it cannot do of a model; no I/O."""
        ...

    async def prepare(self, app: AppRef, release: Release) -> None:
        """Everything slow that needs nothing stopped: networks, volumes, unpacked images.

        Raises ``Conflict`` already here when an address it wants to publish is taken.
        """
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
        """Make exactly these instances answer for the app's published services; no target, no route.

        Raises ``Conflict`` when a published address is taken; the routes are as before then.
        """
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

    def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AbstractAsyncContextManager[Command]:
        """As ``Engine.run``."""
        ...

    def urls(self, app: AppRef, service: Service) -> list[str]: ...

    async def remove_app(self, app: AppRef, volumes: bool) -> None:
        """What is left of an app without instances: routes, networks, and its ``volumes`` if asked."""
        ...
