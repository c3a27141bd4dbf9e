"""Delivering an app, and everything else that changes it; looking at it is for ``views``."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from slipway.access import Identity
from slipway.base.progress import Phases, Progress
from slipway.compose import Project, Refuse
from slipway.delivery.apps import Apps, AppState
from slipway.delivery.builder import Builder
from slipway.delivery.engine import AppRef, Engine, EngineOf, Move, Wanted
from slipway.delivery.images import made_images, tagged_images
from slipway.delivery.outcome import Outcome
from slipway.delivery.policy import PolicyOf, ordinary
from slipway.delivery.reconcile import Reconciler
from slipway.delivery.releases import Release, release_digest
from slipway.delivery.removal import take_away
from slipway.delivery.volumes import named_volumes
from slipway.errors import Conflict, Invalid

MAX_REPLICAS = 1000


class Deliverer:
    """One for a server. An app is changed by one call at a time; others wait."""

    def __init__(
        self, apps: Apps, builder: Builder, engine_of: EngineOf, policy_of: PolicyOf = ordinary
    ) -> None:
        """``engine_of``: what runs a project's apps; the same object for all whose apps run in one place."""
        self._apps = apps
        self._policy_of = policy_of
        self._builder = builder
        self._engine_of = engine_of
        self._locks: dict[AppRef, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._reconciler = Reconciler(apps, engine_of, self._locks)

    async def deliver(
        self, project: str, model: Project, source: Path, identity: Identity, revision: str, progress: Progress,
        *, no_cache: bool = False,
    ) -> Outcome:  # fmt: skip
        """Build, release and run ``model``. Raises what went wrong; the release before stays in service then."""
        ref = AppRef(project, model.name)
        phases = Phases(progress)
        engine = await self._engine_of(project)
        await self._check(project, model)
        async with self._locks[ref]:
            state = await self._ready_for_delivery(engine, ref, progress)
            with phases.phase("build"):
                images = await made_images(self._builder, ref, model, source, identity, progress, no_cache)
            if state.current is not None and await self._serves(engine, state, model, images):
                return Outcome(ref, state.current, True, _urls(engine, ref, model), phases.timings)
            number = await self._apps.next_number(ref)
            images = await tagged_images(self._builder, model, images, str(number))
            release = await self._apps.record(ref, number, model, images, identity.name, revision)
            with phases.phase("run"):
                await self._roll_out(engine, ref, release, progress)
        return Outcome(ref, number, False, _urls(engine, ref, model), phases.timings)

    async def refusals(self, project: str) -> Refuse:
        """What a model cannot or may not have in a project, to be told while its file is read."""
        engine, policy = await self._engine_of(project), await self._policy_of(project)
        return lambda model: [*policy.refusals(model), *engine.refusals(model)]

    async def _check(self, project: str, model: Project) -> None:
        for refusal in (await self.refusals(project))(model):
            raise refusal.error()

    async def _ready_for_delivery(self, engine: Engine, ref: AppRef, progress: Progress) -> AppState:
        state = await self._apps.ensure(ref)
        if state.removing:
            await take_away(engine, self._apps, ref, state.removing_volumes, progress)
            state = await self._apps.ensure(ref)
        return state

    async def _serves(
        self, engine: Engine, state: AppState, model: Project, images: Mapping[str, Mapping[str, str]]
    ) -> bool:
        assert state.current is not None
        release = await self._apps.release(state.ref, state.current)
        if release.digest != release_digest(model, images):
            return False
        return await engine.serves(state.ref, Wanted(release, state.scale))

    async def _roll_out(self, engine: Engine, ref: AppRef, release: Release, progress: Progress) -> None:
        """Make ``release`` the one that serves. It is so from the moment one transaction says it."""
        state = await self._apps.get(ref)
        before = await self._apps.current(state)
        taken = False

        async def taken_over() -> None:
            nonlocal taken
            await self._apps.activate(ref, release.number)
            taken = True

        move = Move(
            Wanted(release, state.scale),
            Wanted(before, state.scale) if before else None,
            taken_over=taken_over,
        )
        try:
            await engine.roll_out(ref, move, progress)
        except BaseException as error:
            if not taken:
                await asyncio.shield(self._apps.fail(ref, release.number, str(error) or "cancelled"))
            raise

    async def rollback(self, ref: AppRef, to: int | None, identity: Identity, progress: Progress) -> Outcome:
        """Make an earlier release serve again, under its own number: by number, or the one that served before this.

        A release is immutable and has served already, so nothing is built or recorded anew; a rollback that fails
        leaves it as good a target as before.
        """
        phases = Phases(progress)
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            state = await self._staying(ref)
            target = await self._rollback_target(ref, state, to)
            await self._check(ref.project, target.model)
            with phases.phase("run"):
                await self._roll_out(engine, ref, target, progress)
        return Outcome(ref, target.number, False, _urls(engine, ref, target.model), phases.timings)

    async def _rollback_target(self, ref: AppRef, state: AppState, to: int | None) -> Release:
        if to is not None:
            target = await self._apps.release(ref, to)
            if target.status in ("failed", "pending"):
                raise Conflict(f"release {to} never served", hint="choose one that is superseded")
            return target
        for release in await self._apps.releases(ref):
            if release.status == "superseded" and (state.current is None or release.number < state.current):
                return release
        raise Conflict(f"{ref} has no earlier release", hint="only a release that served can be gone back to")

    async def scale(self, ref: AppRef, replicas: Mapping[str, int], progress: Progress) -> Outcome:
        """Run so many instances of each service, in this and every later release."""
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            state = await self._staying(ref)
            release = await self._current(state)
            for name, count in replicas.items():
                _check_scale(ref, release.model, name, count)
            wanted = Wanted(release, {**state.scale, **replicas})
            unchanged = await engine.serves(ref, wanted)
            move = Move(
                wanted, Wanted(release, state.scale), confirm=partial(self._apps.confirm, state),
                taken_over=lambda: self._apps.set_scale(ref, replicas),
            )  # fmt: skip
            await engine.roll_out(ref, move, progress)
        return Outcome(ref, release.number, unchanged, _urls(engine, ref, release.model))

    async def restart(self, ref: AppRef, services: Sequence[str], progress: Progress) -> Outcome:
        """Replace instances by fresh ones of the same release, without a gap where two may run."""
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            state = await self._staying(ref)
            release = await self._current(state)
            chosen = set(services or release.model.services)
            if unknown := chosen - set(release.model.services):
                raise Invalid(f"{ref} has no service {sorted(unknown)[0]!r}")
            wanted = Wanted(release, state.scale)
            move = Move(wanted, wanted, frozenset(chosen), partial(self._apps.confirm, state))
            await engine.roll_out(ref, move, progress)
        return Outcome(ref, release.number, False, _urls(engine, ref, release.model))

    async def move(self, ref: AppRef, to: str, leave_data: bool, progress: Progress) -> Outcome:
        """Have the app on another cluster: first up there, then down where it was. Its volumes' data do not travel.

        Raises ``Conflict`` for an app with volumes unless ``leave_data``, and for one that is on several clusters.
        """
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            state = await self._staying(ref)
            release = await self._current(state)
            kept = named_volumes(release.model)
            if kept and not leave_data:
                raise Conflict(
                    f"{ref} has volumes, and their data would stay behind: {', '.join(kept)}",
                    hint="--leave-data moves it all the same; it begins with empty volumes there",
                )
            if kept:
                text = f"the data of {', '.join(kept)} stays behind; {ref} begins with what is on {to}"
                progress({"event": "warning", "text": text})
            wanted = Wanted(release, state.scale)
            move = Move(wanted, wanted, confirm=partial(self._apps.confirm, state), to=to)
            await engine.roll_out(ref, move, progress)
        return Outcome(ref, release.number, False, _urls(engine, ref, release.model))

    async def remove(self, ref: AppRef, volumes: bool, progress: Progress) -> None:
        """End everything of the app and forget it with its releases. Interrupted, it is finished later."""
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            await self._apps.start_removal(ref, volumes)
            # It may be that a removal was begun before, and was to take the volumes.
            state = await self._apps.get(ref)
            await take_away(engine, self._apps, ref, state.removing_volumes, progress)

    async def _staying(self, ref: AppRef) -> AppState:
        """An app whose removal was begun goes, whatever else were done to it."""
        state = await self._apps.get(ref)
        if state.removing:
            raise Conflict(f"{ref} is being removed", hint="deliver it anew once it is gone")
        return state

    async def _current(self, state: AppState) -> Release:
        release = await self._apps.current(state)
        if release is None:
            raise Conflict(f"{state.ref} has no release that serves", hint="deliver it first")
        return release

    # Keeping it true

    async def run_forever(self) -> None:
        """See ``reconcile``."""
        await self._reconciler.run_forever()

    async def reconcile(self) -> None:
        """One pass over all apps that nobody is changing."""
        await self._reconciler.once()


def _urls(engine: Engine, ref: AppRef, model: Project) -> list[str]:
    return [url for service in model.services.values() for url in engine.urls(ref, service)]


def _check_scale(ref: AppRef, model: Project, name: str, count: int) -> None:
    service = model.services.get(name)
    if service is None:
        raise Invalid(f"{ref} has no service {name!r}", hint=f"it has {', '.join(model.services)}")
    if not 0 <= count <= MAX_REPLICAS:
        raise Invalid(f"{count} replicas are not possible", hint=f"0 to {MAX_REPLICAS}")
    if count > 1 and service.stateful and not service.start_first:
        raise Conflict(
            f"{name!r} writes to a volume: two instances would share it",
            hint="if it can share, say `x-slipway: {order: start-first}`",
        )
