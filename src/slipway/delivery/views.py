"""Apps as they are, for who looks at them or into them; nothing here changes what should run."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from slipway.access import Identity
from slipway.compose import Project
from slipway.delivery.apps import Apps
from slipway.delivery.builder import Builder
from slipway.delivery.commands import Command
from slipway.delivery.drafts import draft, rendered_images
from slipway.delivery.engine import AppRef, Engine, EngineOf, Instance, LogRecord, Place, Wanted
from slipway.delivery.releases import Release
from slipway.errors import NotFound, Unavailable

log = logging.getLogger(__name__)


class Views:
    """One for a server; asks each project's engine, waits for no change that is under way and holds none up."""

    def __init__(self, apps: Apps, builder: Builder, engine_of: EngineOf) -> None:
        self._apps = apps
        self._builder = builder
        self._engine_of = engine_of

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
        engine, state = await self._engine_of(ref.project), await self._apps.get(ref)
        release = await self._apps.current(state)
        return await engine.places(ref, Wanted(release, state.scale)) if release is not None else ()

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
        await self._apps.get(ref)
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

    async def render(
        self, project: str, model: Project, images: Mapping[str, str], identity: Identity
    ) -> list[dict[str, Any]]:
        """What a delivery of ``model`` would apply to a cluster, changing nothing.

        An image is the one named in ``images``, else what the file names, else that of the release that serves.
        """
        ref = AppRef(project, model.name)
        engine = await self._engine_of(project)
        states = {state.ref: state for state in await self._apps.all()}
        state = states.get(ref)
        current = await self._apps.current(state) if state else None
        found = await rendered_images(self._builder, model, images, current, identity)
        release = draft(model, found, (current.number if current else 0) + 1, identity.name)
        return await engine.render(ref, Wanted(release, state.scale if state else {}))
