"""What runs apps: the Protocol every engine implements."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from slipway.base.progress import Progress
from slipway.compose import Project, Refusal, Service
from slipway.delivery.commands import Command
from slipway.delivery.releases import Release


@dataclass(frozen=True, slots=True)
class AppRef:
    project: str
    name: str

    def __str__(self) -> str:
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One copy of a service. ``config`` is the digest of what it was started from.

    ``running`` holds also while the engine itself is about to start it again, by its restart policy.
    """

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
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """One of the clusters of an app. ``replicas``: by service, how many it is to have there.

    ``state``: ``carries`` (what runs there counts), ``silent`` (the same, but it does not answer), ``away`` (it failed,
    and others carry its share), ``leaving`` (what is there goes), ``data`` (only volumes' data was left there).
    ``since``: ISO 8601, of ``silent`` and ``away``, whose ``reason`` says what is wrong.
    """

    cluster: str
    state: str
    weight: int = 0
    replicas: Mapping[str, int] = field(default_factory=dict)
    since: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LogRecord:
    instance: str
    service: str
    stream: str
    time: str
    text: str


Confirm = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """For moves that change no record, and that nobody else can be in the way of."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should run of an app: a release, with so many instances of a service where ``scale`` says so."""

    release: Release
    scale: Mapping[str, int] = field(default_factory=dict)

    def replicas(self, service: Service) -> int:
        return self.scale.get(service.name, service.replicas)


@dataclass(frozen=True, slots=True)
class Move:
    """From what runs to ``wanted``.

    ``before`` is what served when the move began, if anything did. Of the services in ``renew`` every instance is
    replaced, although nothing about them changed. ``confirm`` raises ``Conflict`` if another server has changed the app
    since; an engine calls it when nobody else can any more, and before it changes anything. ``taken_over`` records the
    change; an engine calls it exactly once, when everything new answers and before anything is ended that could not be
    brought back as it was. ``to``: the cluster where the app is to be from now on, with engines that have several.
    ``patience``: for how many seconds an engine's own parts that do not answer are waited for, if not its own way.
    """

    wanted: Wanted
    before: Wanted | None = None
    renew: frozenset[str] = frozenset()
    confirm: Confirm = nothing
    taken_over: Callable[[], Awaitable[None]] = nothing
    to: str = ""
    patience: float | None = None


class Engine(Protocol):
    """Runs whole releases of apps: the one model behind deliver, rollback, scale, restart and reconciliation.

    Life of an app: ``roll_out`` of its first release → ``mend`` whenever it is not ``sound`` → ``roll_out`` of others
    → ``remove``. Deploying, rolling back, scaling and restarting are all one verb, ``roll_out``, with different ends
    of a ``Move``, and so is taking an app to another cluster; ways to get there (canary, blue-green) are more fields of
    ``Move``, and an autoscaler changes ``Wanted.scale``. An engine keeps no memory that a restart could lose. Calls for
    one app come one at a time, but for those that only look; calls for different apps at any time. Example: a delivery
    is ``refusals`` of its model, ``serves`` to see that something is to be done, ``roll_out``.
    """

    def refusals(self, model: Project) -> Sequence[Refusal]:
        """What this engine cannot do of a model; no I/O, so that a person is told before anything is built."""
        ...

    async def serves(self, app: AppRef, wanted: Wanted) -> bool:
        """Whether all of it runs and nothing else does, so that a ``roll_out`` would change nothing."""
        ...

    async def roll_out(self, app: AppRef, move: Move, progress: Progress) -> None:
        """Make the move. Each service comes up when those it depends on are up; the old ones serve meanwhile.

        Raises ``Failed``, with the last lines that were written, when something does not become healthy in its time;
        ``Invalid`` for a model it refuses, ``Conflict`` for a name or an address that is taken, ``Unavailable`` when
        the engine's own parts stay away. After an error, and after a cancellation before ``taken_over`` was called,
        ``before`` runs as it did. Killed at any time, ``mend`` puts in order what it left. An engine that has several
        clusters goes on without one that fails meanwhile if the others can take its share, and says so.
        """
        ...

    async def sound(self, apps: Mapping[AppRef, Wanted]) -> Collection[AppRef]:
        """Those of ``apps`` that need no ``mend``, by few questions for many of them; none is a valid answer."""
        ...

    async def mend(
        self, app: AppRef, wanted: Wanted | None, *, repair: bool, confirm: Confirm = nothing
    ) -> bool:
        """Bring what drifted back to ``wanted``; ``None``: no release ever served, and leftovers go.

        Returns whether there was nothing to mend. Without ``repair`` only what is quick and cannot fail again and again
        is done, e.g. that what ended gets no requests. ``confirm`` as in a ``Move``. Raises as ``roll_out``.
        """
        ...

    async def remove(self, app: AppRef, volumes: bool, progress: Progress) -> None:
        """End everything of the app. Idempotent. ``volumes``, with what is in them, stay unless asked for."""
        ...

    async def instances(self, app: AppRef) -> list[Instance]: ...

    async def places(self, app: AppRef, wanted: Wanted) -> Sequence[Place]:
        """The clusters of the app, if the engine has several to choose from; asks none of them."""
        ...

    async def overview(self, apps: Collection[AppRef]) -> Mapping[AppRef, list[Instance]]:
        """The instances of many apps, by few questions; every one of ``apps`` is a key."""
        ...

    def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]: ...

    def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AbstractAsyncContextManager[Command]:
        """A command beside what the instance runs, with the same user, files and environment; gone after the block.

        Raises ``Conflict`` or ``NotFound`` for an instance that does not run.
        """
        ...

    def urls(self, app: AppRef, service: Service) -> list[str]:
        """Where the service answers to the outside."""
        ...

    async def render(self, app: AppRef, wanted: Wanted) -> list[dict[str, Any]]:
        """What the engine would apply, as documents for its own tools. Raises ``Unsupported`` if it has none."""
        ...


EngineOf = Callable[[str], Awaitable[Engine]]
