"""Delivering an app, and everything else that moves it."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from slipway.access import Identity
from slipway.base.progress import Progress
from slipway.compose import Project, Refuse
from slipway.delivery.apps import Apps, AppState
from slipway.delivery.builder import Builder, BuildOrder, ImageRef
from slipway.delivery.commands import Command
from slipway.delivery.drafts import draft, rendered_images
from slipway.delivery.engine import AppRef, Engine, EngineOf, Instance, LogRecord, Move, Place, Wanted
from slipway.delivery.outcome import Outcome, Phases
from slipway.delivery.reconcile import Reconciler
from slipway.delivery.releases import Release, release_digest
from slipway.delivery.removal import take_away
from slipway.delivery.rollout import first_error
from slipway.delivery.volumes import named_volumes
from slipway.errors import Conflict, Invalid, NotFound, Unavailable
from slipway.oci import Reference

log = logging.getLogger(__name__)
MAX_REPLICAS = 1000


class Deliverer:
    """One for a server. An app is changed by one call at a time; others wait."""

    def __init__(self, apps: Apps, builder: Builder, engine_of: EngineOf) -> None:
        """``engine_of``: what runs a project's apps; the same object for all whose apps run in one place."""
        self.apps = apps
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
        for refusal in engine.refusals(model):
            raise refusal.error()
        async with self._locks[ref]:
            state = await self._ready_for_delivery(engine, ref, progress)
            with phases.phase("build"):
                images = await self._images(ref, model, source, identity, progress, no_cache)
            if state.current is not None and await self._serves(engine, state, model, images):
                return Outcome(ref, state.current, True, _urls(engine, ref, model), phases.timings)
            number = await self.apps.next_number(ref)
            images = await self._tagged(model, images, str(number))
            release = await self.apps.record(ref, number, model, images, identity.name, revision)
            with phases.phase("run"):
                await self._roll_out(engine, ref, release, progress)
        return Outcome(ref, number, False, _urls(engine, ref, model), phases.timings)

    async def _ready_for_delivery(self, engine: Engine, ref: AppRef, progress: Progress) -> AppState:
        state = await self.apps.ensure(ref)
        if state.removing:
            await take_away(engine, self.apps, ref, state.removing_volumes, progress)
            state = await self.apps.ensure(ref)
        return state

    async def _images(
        self, ref: AppRef, model: Project, source: Path, identity: Identity, progress: Progress, no_cache: bool
    ) -> dict[str, dict[str, str]]:  # fmt: skip
        """Every service's image; builds and look-ups run side by side."""

        async def one(name: str) -> tuple[str, ImageRef]:
            service = model.services[name]
            if service.build is None:
                return name, await self._builder.resolve(Reference.parse(service.image), identity)
            order = BuildOrder(ref.project, ref.name, service, source, no_cache)
            built = await self._builder.build(order, identity, progress)
            return name, ImageRef(built.reference, str(built.digest))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(name)) for name in model.services]
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        found = dict(task.result() for task in tasks)
        return {name: {"reference": image.reference, "digest": image.digest} for name, image in found.items()}

    async def _tagged(
        self, model: Project, images: Mapping[str, Mapping[str, str]], tag: str
    ) -> dict[str, dict[str, str]]:
        """What was built for this release carries its number; what was only named keeps its name."""
        found = {}
        for name, image in images.items():
            one = ImageRef(image["reference"], image["digest"])
            if model.services[name].build is not None:
                one = await self._builder.tag(one, tag)
            found[name] = {"reference": one.reference, "digest": one.digest}
        return found

    async def _serves(
        self, engine: Engine, state: AppState, model: Project, images: Mapping[str, Mapping[str, str]]
    ) -> bool:
        assert state.current is not None
        release = await self.apps.release(state.ref, state.current)
        if release.digest != release_digest(model, images):
            return False
        return await engine.serves(state.ref, Wanted(release, state.scale))

    async def _roll_out(self, engine: Engine, ref: AppRef, release: Release, progress: Progress) -> None:
        """Make ``release`` the one that serves. It is so from the moment one transaction says it."""
        state = await self.apps.get(ref)
        before = await self.apps.release(ref, state.current) if state.current is not None else None
        taken = False

        async def taken_over() -> None:
            nonlocal taken
            await self.apps.activate(ref, release.number)
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
                await asyncio.shield(self.apps.fail(ref, release.number, str(error) or "cancelled"))
            raise

    async def rollback(self, ref: AppRef, to: int | None, identity: Identity, progress: Progress) -> Outcome:
        """Make an earlier release serve again, under its own number: by number, or the one that served before this.

        A release is immutable and has served already, so nothing is built or recorded anew; a rollback that fails
        leaves it as good a target as before.
        """
        phases = Phases(progress)
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            state = await self.apps.get(ref)
            target = await self._rollback_target(ref, state, to)
            with phases.phase("run"):
                await self._roll_out(engine, ref, target, progress)
        return Outcome(ref, target.number, False, _urls(engine, ref, target.model), phases.timings)

    async def _rollback_target(self, ref: AppRef, state: AppState, to: int | None) -> Release:
        if to is not None:
            target = await self.apps.release(ref, to)
            if target.status in ("failed", "pending"):
                raise Conflict(f"release {to} never served", hint="choose one that is superseded")
            return target
        for release in await self.apps.releases(ref):
            if release.status == "superseded" and (state.current is None or release.number < state.current):
                return release
        raise Conflict(f"{ref} has no earlier release", hint="only a release that served can be gone back to")

    async def scale(self, ref: AppRef, replicas: Mapping[str, int], progress: Progress) -> Outcome:
        """Run so many instances of each service, in this and every later release."""
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            state = await self.apps.get(ref)
            release = await self._current(ref)
            for name, count in replicas.items():
                _check_scale(ref, release.model, name, count)
            wanted = Wanted(release, {**state.scale, **replicas})
            unchanged = await engine.serves(ref, wanted)
            move = Move(
                wanted, Wanted(release, state.scale), confirm=partial(self.apps.confirm, state),
                taken_over=lambda: self.apps.set_scale(ref, replicas),
            )  # fmt: skip
            await engine.roll_out(ref, move, progress)
        return Outcome(ref, release.number, unchanged, _urls(engine, ref, release.model))

    async def restart(self, ref: AppRef, services: Sequence[str], progress: Progress) -> Outcome:
        """Replace instances by fresh ones of the same release, without a gap where two may run."""
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            release = await self._current(ref)
            chosen = set(services or release.model.services)
            if unknown := chosen - set(release.model.services):
                raise Invalid(f"{ref} has no service {sorted(unknown)[0]!r}")
            state = await self.apps.get(ref)
            wanted = Wanted(release, state.scale)
            move = Move(wanted, wanted, frozenset(chosen), partial(self.apps.confirm, state))
            await engine.roll_out(ref, move, progress)
        return Outcome(ref, release.number, False, _urls(engine, ref, release.model))

    async def move(self, ref: AppRef, to: str, leave_data: bool, progress: Progress) -> Outcome:
        """Have the app on another cluster: first up there, then down where it was. Its volumes' data do not travel.

        Raises ``Conflict`` for an app with volumes unless ``leave_data``, and for one that is on several clusters.
        """
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            state = await self.apps.get(ref)
            release = await self._current(ref)
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
            move = Move(wanted, wanted, confirm=partial(self.apps.confirm, state), to=to)
            await engine.roll_out(ref, move, progress)
        return Outcome(ref, release.number, False, _urls(engine, ref, release.model))

    async def remove(self, ref: AppRef, volumes: bool, progress: Progress) -> None:
        """End everything of the app and forget it with its releases. Interrupted, it is finished later."""
        engine = await self._engine_of(ref.project)
        async with self._locks[ref]:
            await self.apps.start_removal(ref, volumes)
            await take_away(engine, self.apps, ref, volumes, progress)

    async def _current(self, ref: AppRef) -> Release:
        release = await self.current(ref)
        if release is None:
            raise Conflict(f"{ref} has no release that serves", hint="deliver it first")
        return release

    # Looking

    async def instances(self, ref: AppRef) -> list[Instance]:
        return await (await self._engine_of(ref.project)).instances(ref)

    async def overview(self, refs: Sequence[AppRef]) -> dict[AppRef, list[Instance]]:
        """The instances of many apps. Those of an engine that does not answer are not among them."""
        by_engine: dict[int, tuple[Engine, list[AppRef]]] = {}
        for project in {ref.project for ref in refs}:
            engine = await self._engine_of(project)
            mine = [ref for ref in refs if ref.project == project]
            by_engine.setdefault(id(engine), (engine, []))[1].extend(mine)
        found: dict[AppRef, list[Instance]] = {}
        for engine, mine in by_engine.values():
            try:
                found.update(await engine.overview(mine))
            except Unavailable as error:
                log.warning("%d apps cannot be shown as they are: %s", len(mine), error)
        return found

    async def places(self, ref: AppRef) -> Sequence[Place]:
        """The clusters of an app, where there are several to choose from."""
        engine, state = await self._engine_of(ref.project), await self.apps.get(ref)
        if state.current is None:
            return ()
        return await engine.places(ref, Wanted(await self.apps.release(ref, state.current), state.scale))

    async def current(self, ref: AppRef) -> Release | None:
        state = await self.apps.get(ref)
        return await self.apps.release(ref, state.current) if state.current is not None else None

    async def urls(self, ref: AppRef, release: Release) -> dict[str, list[str]]:
        engine = await self._engine_of(ref.project)
        return {name: engine.urls(ref, service) for name, service in release.model.services.items()}

    async def logs(
        self, ref: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        engine = await self._engine_of(ref.project)
        async for line in engine.logs(ref, instance, follow, tail):
            yield line

    @asynccontextmanager
    async def run(
        self, ref: AppRef, service: str, replica: int, command: Sequence[str], *, takes_input: bool,
        terminal: bool,
    ) -> AsyncIterator[Command]:  # fmt: skip
        """A command in an instance of a service; ``replica`` 0 is any that runs. Raises ``NotFound``, ``Conflict``."""
        await self.apps.get(ref)
        engine = await self._engine_of(ref.project)
        mine = [item for item in await engine.instances(ref) if item.service == service]
        chosen = [item for item in mine if item.running and replica in (0, item.replica)]
        if not chosen:
            one = f"instance {replica}" if replica else "instance"
            raise NotFound(
                f"the app {ref} has no {one} of {service!r} that runs", hint=f"slipway app show {ref.name}"
            )
        async with engine.run(ref, chosen[0], command, takes_input=takes_input, terminal=terminal) as found:
            yield found

    async def refusals(self, project: str) -> Refuse:
        """What the project's engine cannot do of a model, to be told while its file is read."""
        return (await self._engine_of(project)).refusals

    async def render(
        self, project: str, model: Project, images: Mapping[str, str], identity: Identity
    ) -> list[dict[str, Any]]:
        """What a delivery of ``model`` would apply to a cluster, changing nothing.

        An image is the one named in ``images``, else what the file names, else that of the release that serves.
        """
        ref = AppRef(project, model.name)
        engine = await self._engine_of(project)
        states = {state.ref: state for state in await self.apps.all()}
        state = states.get(ref)
        current = await self.apps.release(ref, state.current) if state and state.current is not None else None
        found = await rendered_images(self._builder, model, images, current, identity)
        release = draft(model, found, (current.number if current else 0) + 1, identity.name)
        return await engine.render(ref, Wanted(release, state.scale if state else {}))

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
