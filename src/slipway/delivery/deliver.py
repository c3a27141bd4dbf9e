"""Delivering an app, and everything else that moves it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.access import Identity
from slipway.base.progress import Progress, silent
from slipway.compose import Project
from slipway.delivery.apps import Apps, AppState
from slipway.delivery.builder import Builder, BuildOrder, ImageRef
from slipway.delivery.engine import AppRef, Engine, Instance, LogRecord
from slipway.delivery.plan import plan
from slipway.delivery.releases import Release, release_digest
from slipway.delivery.rollout import Rollout
from slipway.errors import Conflict, Invalid, SlipwayError
from slipway.oci import Reference

log = logging.getLogger(__name__)
_RECONCILE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a delivery came to."""

    app: AppRef
    release: int
    unchanged: bool
    urls: Sequence[str] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "project": self.app.project, "app": self.app.name, "release": self.release, "unchanged": self.unchanged,
            "urls": list(self.urls), "timings": dict(self.timings),
        }  # fmt: skip


class _Clock:
    """Phases as events, and their times."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.timings: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        self._progress({"event": "phase", "name": name, "state": "start"})
        yield
        seconds = round(time.monotonic() - began, 3)
        self.timings[name] = seconds
        self._progress({"event": "phase", "name": name, "state": "done", "seconds": seconds})


class Deliverer:
    """One for a server. An app is changed by one call at a time; others wait."""

    def __init__(self, apps: Apps, builder: Builder, engine: Engine) -> None:
        self.apps = apps
        self._builder = builder
        self._engine = engine
        self._locks: dict[AppRef, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def deliver(
        self, project: str, model: Project, source: Path, identity: Identity, revision: str, progress: Progress,
        *, no_cache: bool = False,
    ) -> Outcome:  # fmt: skip
        """Build, release and run ``model``. Raises what went wrong; the release before stays in service then."""
        ref = AppRef(project, model.name)
        clock = _Clock(progress)
        async with self._locks[ref]:
            state = await self.apps.ensure(ref)
            with clock.phase("build"):
                images = await self._images(ref, model, source, identity, progress, no_cache)
            if state.current is not None and await self._serves(ref, state, model, images):
                return Outcome(ref, state.current, True, self._urls(ref, model), clock.timings)
            number = await self.apps.next_number(ref)
            images = await self._tagged(model, images, str(number))
            release = await self.apps.record(ref, number, model, images, identity.name, revision)
            with clock.phase("run"):
                await self._roll_out(ref, release, progress)
        return Outcome(ref, number, False, self._urls(ref, model), clock.timings)

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
            raise _first(errors) from None
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
        self, ref: AppRef, state: AppState, model: Project, images: Mapping[str, Mapping[str, str]]
    ) -> bool:
        assert state.current is not None
        release = await self.apps.release(ref, state.current)
        if release.digest != release_digest(model, images):
            return False
        return plan(release, state.scale, await self._engine.instances(ref)).unchanged

    async def _roll_out(self, ref: AppRef, release: Release, progress: Progress) -> None:
        state = await self.apps.get(ref)
        todo = plan(release, state.scale, await self._engine.instances(ref))
        try:
            await Rollout(self._engine, ref, release, todo, progress).run()
        except BaseExceptionGroup as errors:
            found = _first(errors)
            await self.apps.fail(ref, release.number, str(found))
            raise found from None
        except BaseException as error:
            await asyncio.shield(self.apps.fail(ref, release.number, str(error) or type(error).__name__))
            raise
        await self.apps.activate(ref, release.number)

    async def rollback(self, ref: AppRef, to: int | None, identity: Identity, progress: Progress) -> Outcome:
        """Run an earlier release again, as it was recorded: by number, or the one that served before this."""
        clock = _Clock(progress)
        async with self._locks[ref]:
            state = await self.apps.get(ref)
            target = await self._rollback_target(ref, state, to)
            with clock.phase("run"):
                await self._roll_out(ref, target, progress)
        return Outcome(ref, target.number, False, self._urls(ref, target.model), clock.timings)

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
        async with self._locks[ref]:
            release = await self._current(ref)
            for name, count in replicas.items():
                service = release.model.services.get(name)
                if service is None:
                    raise Invalid(
                        f"{ref} has no service {name!r}", hint=f"it has {', '.join(release.model.services)}"
                    )
                if count > 1 and service.stateful:
                    raise Conflict(f"{name!r} writes to a volume: two instances would share it")
                if not 0 <= count <= 1000:
                    raise Invalid(f"{count} replicas are not possible", hint="0 to 1000")
            await self.apps.set_scale(ref, replicas)
            await self._apply(ref, release, progress)
        return Outcome(ref, release.number, False, self._urls(ref, release.model))

    async def restart(self, ref: AppRef, services: Sequence[str], progress: Progress) -> Outcome:
        """Replace instances by fresh ones of the same release, without a gap where two may run."""
        async with self._locks[ref]:
            release = await self._current(ref)
            chosen = set(services or release.model.services)
            if unknown := chosen - set(release.model.services):
                raise Invalid(f"{ref} has no service {sorted(unknown)[0]!r}")
            state = await self.apps.get(ref)
            observed = await self._engine.instances(ref)
            # What was started from something else is what a plan ends: pretend they were.
            aged = [_aged(item) if item.service in chosen else item for item in observed]
            await Rollout(self._engine, ref, release, plan(release, state.scale, aged), progress).run()
        return Outcome(ref, release.number, False, self._urls(ref, release.model))

    async def remove(self, ref: AppRef, volumes: bool, progress: Progress) -> None:
        async with self._locks[ref]:
            await self.apps.get(ref)
            await self._engine.publish(ref, {})
            for instance in await self._engine.instances(ref):
                await self._engine.stop(ref, instance)
                await self._engine.remove(ref, instance)
                progress({"event": "service.state", "service": instance.service, "state": "stopped"})
            await self._engine.remove_app(ref, volumes)
            await self.apps.remove(ref)

    async def _current(self, ref: AppRef) -> Release:
        state = await self.apps.get(ref)
        if state.current is None:
            raise Conflict(f"{ref} has no release that serves", hint="deliver it first")
        return await self.apps.release(ref, state.current)

    async def _apply(self, ref: AppRef, release: Release, progress: Progress) -> None:
        state = await self.apps.get(ref)
        todo = plan(release, state.scale, await self._engine.instances(ref))
        await Rollout(self._engine, ref, release, todo, progress).run()

    # Looking

    async def instances(self, ref: AppRef) -> list[Instance]:
        return await self._engine.instances(ref)

    async def current(self, ref: AppRef) -> Release | None:
        state = await self.apps.get(ref)
        return await self.apps.release(ref, state.current) if state.current is not None else None

    def urls(self, ref: AppRef, release: Release) -> dict[str, list[str]]:
        return {name: self._engine.urls(ref, service) for name, service in release.model.services.items()}

    def _urls(self, ref: AppRef, model: Project) -> list[str]:
        return [url for service in model.services.values() for url in self._engine.urls(ref, service)]

    def logs(
        self, ref: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        return self._engine.logs(ref, instance, follow, tail)

    # Keeping it true

    async def run_forever(self) -> None:
        """Compare what should run with what does, for ever. An app that is being changed is left alone."""
        while True:
            await self.reconcile()
            await asyncio.sleep(_RECONCILE_SECONDS)

    async def reconcile(self) -> None:
        for state in await self.apps.all():
            if state.current is None or self._locks[state.ref].locked():
                continue
            try:
                async with self._locks[state.ref]:
                    # Asked again: while the lock was waited for, another release may have taken over.
                    await self._reconcile(await self.apps.get(state.ref))
            except (SlipwayError, BaseExceptionGroup) as error:
                log.warning("%s could not be brought to its release: %s", state.ref, error)

    async def _reconcile(self, state: AppState) -> None:
        if state.current is None:
            return
        release = await self.apps.release(state.ref, state.current)
        todo = plan(release, state.scale, await self._engine.instances(state.ref))
        if todo.unchanged:
            targets = {item.service.name: (item.service, item.keep) for item in todo.services}
            await self._engine.publish(state.ref, targets)
        else:
            log.info("%s: %s", state.ref, "; ".join(todo.describe()))
            await Rollout(self._engine, state.ref, release, todo, silent).run()


def _aged(instance: Instance) -> Instance:
    return Instance(
        instance.id, instance.service, instance.release, instance.replica, "", instance.running, instance.health,
        instance.address, instance.restarts, instance.exit_code,
    )  # fmt: skip


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    for error in errors.exceptions:
        found = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, asyncio.CancelledError):
            return found
    return errors.exceptions[0]
