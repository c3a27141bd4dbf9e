"""What runs on clusters, asked of all at once; one that does not answer holds no other up."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from slipway.base.clock import iso
from slipway.delivery.engine import AppRef, Instance, Place, Wanted
from slipway.delivery.placements import Placement
from slipway.engines.spread.members import Members
from slipway.engines.spread.parts import Parts
from slipway.errors import NotFound, SlipwayError, Unavailable

log = logging.getLogger(__name__)
_SOUND_SECONDS = 20.0
_SHOW_SECONDS = 10.0
Parted = Mapping[AppRef, Wanted]


class Looking:
    """One question that is under way for each cluster at most, when all apps are looked at."""

    def __init__(self, members: Members, parts: Parts) -> None:
        self._members = members
        self._parts = parts
        self._asking: dict[str, asyncio.Task[set[AppRef]]] = {}

    async def aclose(self) -> None:
        tasks = list(self._asking.values())
        self._asking.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sound(self, apps: Parted, placed: Mapping[AppRef, Placement]) -> set[AppRef]:
        """Those of which no cluster says that something is to be mended. One that does not answer says nothing."""
        questions: dict[str, dict[AppRef, Wanted]] = defaultdict(dict)
        for app, wanted in apps.items():
            for name in placed[app].weights:
                questions[name][app] = self._parts.of(app, wanted, name, placed[app])
        asked = {
            name: asyncio.create_task(self._ask(name, mine))
            for name, mine in questions.items()
            if name not in self._asking and self._members.health(name).well
        }
        self._asking |= asked
        for name, task in asked.items():
            task.add_done_callback(lambda _, name=name: self._asking.pop(name, None))  # type: ignore[misc]
        found = set(apps)
        if asked:
            await asyncio.wait(asked.values(), timeout=_SOUND_SECONDS)
        for name, task in asked.items():
            if task.done() and not task.cancelled():
                found -= questions[name].keys() - task.result()
        return found

    async def _ask(self, name: str, apps: Parted) -> set[AppRef]:
        try:
            return set(await (await self._members.engine(name)).sound(apps))
        except SlipwayError as error:
            log.warning("%d apps on %s could not be looked at: %s", len(apps), name, error)
        except Exception:
            log.exception("%d apps on %s could not be looked at", len(apps), name)
        return set(apps)

    async def overview(self, names: Mapping[AppRef, Sequence[str]]) -> dict[AppRef, list[Instance]]:
        """``names``: the clusters of each app. Those of which no cluster answers are not among the keys.

        A cluster that is away is asked only for apps that are nowhere else. Raises ``Unavailable`` when none answers.
        """
        questions: dict[str, list[AppRef]] = defaultdict(list)
        for app, mine in names.items():
            well = [name for name in mine if self._members.health(name).well]
            for name in well or mine:
                questions[name].append(app)
        answers = await asyncio.gather(
            *(self._show(name, apps) for name, apps in questions.items()), return_exceptions=True
        )
        found: dict[AppRef, list[Instance]] = {app: [] for app, mine in names.items() if not mine}
        errors = []
        for name, answer in zip(questions, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, (SlipwayError, TimeoutError)):
                    raise answer
                log.warning("what runs on %s cannot be shown: %s", name, answer or "no answer in time")
                errors.append(answer)
                continue
            for app, instances in answer.items():
                found.setdefault(app, []).extend(replace(item, cluster=name) for item in instances)
        if errors and len(errors) == len(questions):
            said = next((item for item in errors if isinstance(item, SlipwayError)), None)
            raise said or Unavailable(f"no answer from {', '.join(questions)} within {_SHOW_SECONDS:g} s")
        return found

    async def _show(self, name: str, apps: Sequence[AppRef]) -> Mapping[AppRef, list[Instance]]:
        try:
            engine = await self._members.engine(name)
        except NotFound:
            return {}
        async with asyncio.timeout(_SHOW_SECONDS):
            if len(apps) == 1:
                return {apps[0]: await engine.instances(apps[0])}
            return await engine.overview(apps)

    def places(
        self, app: AppRef, wanted: Wanted, bound: Mapping[str, int], recorded: Placement
    ) -> list[Place]:
        return [
            self._place(app, wanted, name, bound.get(name, 0), recorded)
            for name in sorted(recorded.on | recorded.left)
        ]

    def _place(self, app: AppRef, wanted: Wanted, name: str, weight: int, recorded: Placement) -> Place:
        health = self._members.health(name)
        if name in recorded.weights:
            part = self._parts.of(app, wanted, name, recorded)
            services = part.release.model.services
            replicas = {service.name: part.replicas(service) for service in services.values()}
            if health.well:
                return Place(name, "carries", weight, replicas)
            since = iso(health.since) if health.since else ""
            return Place(name, "silent", weight, replicas, since, health.reason)
        if name in recorded.away:
            return Place(name, "away", weight, {}, recorded.away[name], health.reason)
        return Place(name, "leaving" if name in recorded.on else "data", weight)
