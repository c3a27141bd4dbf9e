"""Keeping apps true to their releases: load what is wanted and what is, decide without I/O, apply."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from slipway.base.progress import silent
from slipway.delivery.apps import Apps, AppState
from slipway.delivery.engine import AppRef, Engine, EngineOf, Wanted
from slipway.delivery.releases import Release
from slipway.delivery.removal import take_away
from slipway.errors import NotFound, SlipwayError, Unavailable

log = logging.getLogger(__name__)
INTERVAL = 5.0
_LONGEST = 300.0
_CALM = 60.0
Locks = Mapping[AppRef, asyncio.Lock]


@dataclass(slots=True)
class Patience:
    """How long to wait before an app is repaired again: longer each time, until it stays whole for a while."""

    repairs: int = 0
    until: float = 0
    calm_since: float | None = None

    def repaired(self, now: float) -> None:
        self.until = now + min(INTERVAL * 2.0 ** min(self.repairs, 16), _LONGEST)
        self.repairs += 1
        self.calm_since = None

    def whole(self, now: float) -> None:
        if self.calm_since is None:
            self.calm_since = now
        if now - self.calm_since >= _CALM:
            self.repairs, self.until = 0, 0


@dataclass(slots=True)
class Reconciler:
    """One for a server. ``locks`` are those of the ``Deliverer``: an app that is being changed is left alone."""

    apps: Apps
    engine_of: EngineOf
    locks: Locks
    clock: Callable[[], float] = time.monotonic
    _patience: dict[AppRef, Patience] = field(default_factory=lambda: defaultdict(Patience))
    _busy: set[AppRef] = field(default_factory=set)
    _looking: set[int] = field(default_factory=set)
    # A release never changes, and is not read again as long as its app is at it.
    _known: dict[AppRef, Release] = field(default_factory=dict)

    async def run_forever(self) -> None:
        """Each app by its own task, so that one that does not come up holds no other back."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._begin(group)
                await asyncio.sleep(INTERVAL)

    async def once(self) -> None:
        async with asyncio.TaskGroup() as group:
            await self._begin(group)

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        try:
            states = await self.apps.all()
        except SlipwayError as error:
            log.warning("the apps could not be read: %s", error)
            return
        for ref in self._patience.keys() - {state.ref for state in states}:
            del self._patience[ref]
        for ref in self._known.keys() - {state.ref for state in states}:
            del self._known[ref]
        for engine, mine in await self._by_engine(states):
            # One that takes long to answer, or does not, holds the apps of no other engine back.
            if id(engine) not in self._looking:
                self._looking.add(id(engine))
                group.create_task(self._look(group, engine, mine))

    async def _by_engine(self, states: Sequence[AppState]) -> list[tuple[Engine, list[AppState]]]:
        by_project: dict[str, list[AppState]] = defaultdict(list)
        for state in states:
            by_project[state.ref.project].append(state)
        found: dict[int, tuple[Engine, list[AppState]]] = {}
        for project, mine in by_project.items():
            try:
                engine = await self.engine_of(project)
            except SlipwayError as error:
                log.warning("the apps of %s could not be looked at: %s", project, error)
            else:
                found.setdefault(id(engine), (engine, []))[1].extend(mine)
        return list(found.values())

    async def _look(self, group: asyncio.TaskGroup, engine: Engine, states: Sequence[AppState]) -> None:
        try:
            sound = await self._sound(engine, [item for item in states if not self._left_alone(item.ref)])
            for state in states:
                if state.ref in sound:
                    self._patience[state.ref].whole(self.clock())
                elif not self._left_alone(state.ref):
                    self._busy.add(state.ref)
                    group.create_task(self._one(state.ref))
        finally:
            self._looking.discard(id(engine))

    def _left_alone(self, ref: AppRef) -> bool:
        return ref in self._busy or self.locks[ref].locked()

    async def _sound(self, engine: Engine, states: Sequence[AppState]) -> set[AppRef]:
        """The apps that their engine says need nothing."""
        apps: dict[AppRef, Wanted] = {}
        for state in states:
            try:
                wanted = None if state.removing else await self._wanted(state)
            except SlipwayError as error:
                log.warning("%s could not be looked at: %s", state.ref, error)
            else:
                if wanted is not None:
                    apps[state.ref] = wanted
        try:
            return set(await engine.sound(apps))
        except SlipwayError as error:
            # Nothing would be mended either: what the engine stands on does not answer.
            log.warning("%d apps could not be looked at: %s", len(apps), error)
        except Exception:
            log.exception("%d apps could not be looked at", len(apps))
        return set(apps)

    async def _wanted(self, state: AppState) -> Wanted | None:
        if state.current is None:
            return None
        known = self._known.get(state.ref)
        if known is None or known.number != state.current:
            known = self._known[state.ref] = await self.apps.release(state.ref, state.current)
        return Wanted(known, state.scale)

    async def _one(self, ref: AppRef) -> None:
        try:
            async with self.locks[ref]:
                await self._reconcile(ref)
        except NotFound:
            return  # removed since the apps were listed
        except SlipwayError as error:
            log.warning("%s could not be brought to its release: %s", ref, error)
        except Exception:
            # A defect met by one app must not end the server under all others.
            log.exception("%s could not be brought to its release", ref)
        finally:
            self._busy.discard(ref)

    async def _reconcile(self, ref: AppRef) -> None:
        # Read under the lock: what the list said may have been changed by a delivery since.
        state = await self.apps.get(ref)
        engine = await self.engine_of(ref.project)
        patience = self._patience[ref]
        repair = self.clock() >= patience.until
        if state.removing:
            if repair:
                patience.repaired(self.clock())
                await take_away(engine, self.apps, ref, state.removing_volumes, silent)
            return
        self._known.pop(ref, None)  # an app of the same name may have been removed and delivered again
        try:
            wanted = await self._wanted(state)
            confirm = partial(self.apps.confirm, state)
            whole = await engine.mend(ref, wanted, repair=repair, confirm=confirm)
        except Unavailable:
            raise  # nothing was tried, and once it answers again nothing should wait
        except BaseException:
            if repair:
                patience.repaired(self.clock())
            raise
        if whole:
            patience.whole(self.clock())
        elif repair:
            patience.repaired(self.clock())
