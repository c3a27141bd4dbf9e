"""Keeping apps true to their releases: load what is wanted and what is, decide without I/O, apply."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from slipway.base.progress import silent
from slipway.compose import Service
from slipway.delivery.apps import Apps, AppState
from slipway.delivery.engine import AppRef, Engine, Instance
from slipway.delivery.plan import RolloutPlan, plan
from slipway.delivery.releases import Release
from slipway.delivery.removal import take_away
from slipway.delivery.rollout import Rollout
from slipway.errors import NotFound, SlipwayError

log = logging.getLogger(__name__)
INTERVAL = 5.0
_LONGEST = 300.0
_CALM = 60.0
Locks = Mapping[AppRef, asyncio.Lock]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one app.

    ``publish``: everything runs, the routes are made sure of. ``repair``: ``plan`` is to be carried out. ``clear``: no
    release ever served, ``leftovers`` of one that was interrupted go. ``remove``: finish a removal.
    """

    action: Literal["publish", "repair", "clear", "remove", "nothing"]
    plan: RolloutPlan | None = None
    leftovers: tuple[Instance, ...] = ()

    def describe(self) -> str:
        if self.plan is not None:
            return "; ".join(self.plan.describe())
        return f"{self.action} {', '.join(item.id for item in self.leftovers)}".strip()


def decide(state: AppState, release: Release | None, observed: Sequence[Instance]) -> Decision:
    """Pure. Restarts of instances that end are the runtime's, by their restart policy; it tells them as running."""
    if state.removing:
        return Decision("remove")
    if release is None:
        return Decision("clear", leftovers=tuple(observed)) if observed else Decision("nothing")
    todo = plan(release, state.scale, observed)
    return Decision("publish" if todo.unchanged else "repair", todo)


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
    engine: Engine
    locks: Locks
    clock: Callable[[], float] = time.monotonic
    _patience: dict[AppRef, Patience] = field(default_factory=lambda: defaultdict(Patience))
    _busy: set[AppRef] = field(default_factory=set)

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
        for state in states:
            if state.ref not in self._busy and not self.locks[state.ref].locked():
                self._busy.add(state.ref)
                group.create_task(self._one(state.ref))

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
        release = await self.apps.release(ref, state.current) if state.current is not None else None
        decision = decide(state, release, await self.engine.instances(ref))
        patience = self._patience[ref]
        if decision.action == "publish" and decision.plan is not None:
            patience.whole(self.clock())
            await self.engine.publish(ref, targets(decision.plan))
            return
        rollout = None
        if release is not None and decision.plan is not None:
            rollout = Rollout(self.engine, ref, release, decision.plan, silent, before=release)
            await rollout.publish_old()  # what ended gets no requests while we wait or repair
        if decision.action != "nothing" and self.clock() >= patience.until:
            patience.repaired(self.clock())
            log.info("%s: %s", ref, decision.describe())
            await (rollout.run() if rollout is not None else self._clean(state, decision))

    async def _clean(self, state: AppState, decision: Decision) -> None:
        if decision.action == "remove":
            await take_away(self.engine, self.apps, state.ref, state.removing_volumes, silent)
            return
        await self.engine.publish(state.ref, {})
        for instance in decision.leftovers:
            await self.engine.stop(state.ref, instance)
            await self.engine.remove(state.ref, instance)


def targets(whole: RolloutPlan) -> dict[str, tuple[Service, Sequence[Instance]]]:
    return {item.service.name: (item.service, item.keep) for item in whole.services}
