"""``Engine`` over several clusters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from slipway.base.clock import iso, now
from slipway.base.progress import Progress
from slipway.compose import Project, Refusal, Refuse, Service
from slipway.delivery.commands import Command
from slipway.delivery.engine import AppRef, Confirm, Engine, Instance, LogRecord, Move, Place, Wanted, nothing
from slipway.delivery.placements import Placement, Placements
from slipway.engines.spread.asking import asked_for, check_reachable
from slipway.engines.spread.looking import Looking
from slipway.engines.spread.members import Members
from slipway.engines.spread.parts import Parts, has_jobs, keeps_data
from slipway.engines.spread.placing import settled, without
from slipway.engines.spread.rollout import RolloutOnAll
from slipway.engines.spread.shifting import Shifting
from slipway.engines.spread.situations import Situations
from slipway.errors import NotFound, SlipwayError, Unavailable

T = TypeVar("T")
_LOOKS_SECONDS = 20.0  # until what just happened has surely been looked at


class Spread:
    """See ``slipway.delivery.engine.Engine`` for the contract. One for all clusters."""

    def __init__(
        self, members: Members, placements: Placements, refuse: Refuse,
        urls: Callable[[AppRef, Service], list[str]], patience: float,
    ) -> None:  # fmt: skip
        """``patience``: for how many seconds a move waits for a cluster that does not answer."""
        self._members = members
        self._placements = placements
        self._refuse = refuse
        self._urls = urls
        self._patience = patience
        self._parts = Parts()
        self._situations = Situations(members, placements)
        self._shifting = Shifting(members, placements, self._parts)
        self._looking = Looking(members, self._parts)

    async def aclose(self) -> None:
        await self._looking.aclose()

    def refusals(self, model: Project) -> Sequence[Refusal]:
        return list(self._refuse(model))

    def urls(self, app: AppRef, service: Service) -> list[str]:
        return self._urls(app, service)

    # Moving

    async def serves(self, app: AppRef, wanted: Wanted) -> bool:
        situation = await self._situations.of(app, wanted.release.model, serves=True)
        recorded = situation.recorded
        silent = [name for name in recorded.weights if not self._members.health(name).well]
        if silent or self._shifting.is_due(situation):
            return False
        try:
            async with asyncio.timeout(self._patience):
                answers = await self._on_all(
                    recorded.weights,
                    lambda name, engine: engine.serves(app, self._parts.of(app, wanted, name, recorded)),
                )
        except (Unavailable, TimeoutError):
            return False  # a move says which does not answer, and finds its way without it
        return all(answers)

    async def roll_out(self, app: AppRef, move: Move, progress: Progress) -> None:
        model = move.wanted.release.model
        for refusal in self.refusals(model):
            raise refusal.error()
        situation = await self._situations.of(app, model, serves=move.before is not None)
        choice = situation.choice
        if move.to:
            choice = asked_for(app, move, situation.recorded, await self._members.weights(app.project))
        check_reachable(app, choice, situation.failed, lambda name: self._members.health(name).reason)
        recorded = situation.recorded if move.to else await self._shifting.flee(app, situation, move.confirm)
        after = settled(recorded, choice)
        if move.to and keeps_data(model):
            after = replace(after, left=(after.left | {recorded.home}) - {move.to})
        await self._placements.put(app, replace(recorded, on=after.on, home=recorded.home or after.home))
        engines = {name: await self._members.engine(name) for name in after.weights}
        moves = {name: self._part_of(app, move, name, recorded, after) for name in after.weights}

        async def record(gone: frozenset[str]) -> None:
            nonlocal after
            await move.taken_over()
            after = without(after, gone, choice, iso(now()))
            if move.to:
                await self._placements.put(app, after)
            else:
                await self._shifting.put(app, recorded, after)

        first = after.home if has_jobs(model) and len(moves) > 1 else ""
        has_failed = partial(self._shifting.comes_to_fail, seconds=self._patience + _LOOKS_SECONDS)
        await RolloutOnAll(app, engines, moves, first, record, has_failed, progress).run()
        await self._shifting.clear(app, after, choice)

    def _part_of(self, app: AppRef, move: Move, name: str, recorded: Placement, after: Placement) -> Move:
        wanted = self._parts.of(app, move.wanted, name, after)
        before = None
        if move.before is not None and name in recorded.weights:
            before = self._parts.of(app, move.before, name, recorded)
        renew = move.renew & wanted.release.model.services.keys()
        patience = self._patience if move.patience is None else move.patience
        return replace(move, wanted=wanted, before=before, renew=frozenset(renew), to="", patience=patience)

    async def mend(
        self, app: AppRef, wanted: Wanted | None, *, repair: bool, confirm: Confirm = nothing
    ) -> bool:
        if wanted is None:
            return await self._mend_none(app, repair, confirm)
        situation = await self._situations.of(app, wanted.release.model, serves=True)
        recorded, due = situation.recorded, self._shifting.is_due(situation)
        trouble: SlipwayError | None = None
        if repair and due:
            try:
                recorded = await self._shifting.shift(app, wanted, situation, confirm)
            except SlipwayError as error:
                # What a cluster cannot take does not keep the others from being mended.
                trouble, recorded = error, await self._placements.get(app)
        names = [name for name in recorded.weights if self._members.health(name).well]
        whole = await self._on_all(
            names, lambda name, engine: engine.mend(
                app, self._parts.of(app, wanted, name, recorded), repair=repair, confirm=confirm
            ),
        )  # fmt: skip
        if trouble is not None:
            raise trouble
        if repair and due:
            await self._shifting.clear(app, recorded, situation.choice)
        return all(whole) and not due

    async def _mend_none(self, app: AppRef, repair: bool, confirm: Confirm) -> bool:
        names = [name for name in await self._everywhere(app) if self._members.health(name).well]
        return all(
            await self._on_all(
                names, lambda _, engine: engine.mend(app, None, repair=repair, confirm=confirm)
            )
        )

    async def remove(self, app: AppRef, volumes: bool, progress: Progress) -> None:
        """Raises ``Unavailable`` when a cluster is away: what is there goes with the next call that finds it."""
        names = await self._everywhere(app, data=volumes)
        away = [name for name in names if not self._members.health(name).well]
        reached = [name for name in names if name not in away]
        await self._on_all(reached, lambda _, engine: engine.remove(app, volumes, progress))
        for name in away:
            if await self._is_known(name):
                raise Unavailable(
                    f"the cluster {name} is away: {self._members.health(name).reason}",
                    hint="what is there goes as soon as it is back; `slipway cluster rm` forgets a cluster",
                )

    async def _is_known(self, name: str) -> bool:
        try:
            await self._members.engine(name)
        except NotFound:
            return False
        return True

    async def _everywhere(self, app: AppRef, data: bool = False) -> list[str]:
        """Where something of it may be; every cluster of its project if that is not recorded."""
        recorded = await self._placements.get(app)
        found = recorded.on | recorded.left if data else recorded.on
        return sorted(found or (await self._members.weights(app.project)).keys())

    async def _on_all(self, names: Iterable[str], ask: Callable[[str, Engine], Awaitable[T]]) -> list[T]:
        """Side by side and each to its end; then the first error, if any."""

        async def one(name: str) -> T:
            return await ask(name, await self._members.engine(name))

        found = await asyncio.gather(*(one(name) for name in names), return_exceptions=True)
        errors = [item for item in found if isinstance(item, BaseException)]
        for error in sorted(errors, key=lambda item: isinstance(item, Unavailable)):
            raise error
        return [item for item in found if not isinstance(item, BaseException)]

    # Looking

    async def sound(self, apps: Mapping[AppRef, Wanted]) -> Collection[AppRef]:
        bound, recorded = await asyncio.gather(self._members.all_weights(), self._placements.all())
        self._parts.forget(apps)
        settled_apps: dict[AppRef, Placement] = {}
        for app, wanted in apps.items():
            try:
                situation = self._situations.judged(
                    wanted.release.model, bound.get(app.project, {}), recorded.get(app, Placement()), True
                )
            except SlipwayError:
                continue  # mending says what is wrong
            if not self._shifting.is_due(situation):
                settled_apps[app] = situation.recorded
        return await self._looking.sound({app: apps[app] for app in settled_apps}, settled_apps)

    async def instances(self, app: AppRef) -> list[Instance]:
        names = await self._everywhere(app)
        return (await self._looking.overview({app: names})).get(app, [])

    async def overview(self, apps: Collection[AppRef]) -> Mapping[AppRef, list[Instance]]:
        recorded, bound = await asyncio.gather(self._placements.all(), self._members.all_weights())
        names = {
            app: sorted(recorded[app].on if app in recorded else bound.get(app.project, {})) for app in apps
        }
        return await self._looking.overview(names)

    async def places(self, app: AppRef, wanted: Wanted) -> Sequence[Place]:
        bound, recorded = await asyncio.gather(self._members.weights(app.project), self._placements.get(app))
        return self._looking.places(app, wanted, bound, recorded)

    async def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        engine = await self._members.engine(instance.cluster)
        async with aclosing(engine.logs(app, instance, follow, tail)) as lines:  # type: ignore[type-var]
            async for line in lines:
                yield line

    @asynccontextmanager
    async def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AsyncIterator[Command]:
        engine = await self._members.engine(instance.cluster)
        async with engine.run(app, instance, command, takes_input=takes_input, terminal=terminal) as running:
            yield running

    async def render(self, app: AppRef, wanted: Wanted) -> list[dict[str, Any]]:
        """All of it, as one cluster would get it that has it alone."""
        situation = await self._situations.of(app, wanted.release.model, serves=False)
        return await (await self._members.engine(situation.choice.home)).render(app, wanted)
