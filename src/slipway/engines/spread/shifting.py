"""Taking an app's shares from clusters to others, and ending what is left where it no longer is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from slipway.base.clock import iso, now
from slipway.base.progress import silent
from slipway.delivery.engine import AppRef, Confirm, Wanted
from slipway.delivery.placements import Placement, Placements
from slipway.engines.spread.members import Members
from slipway.engines.spread.parts import Parts, larger
from slipway.engines.spread.placing import Choice, settled, shift_of, without
from slipway.engines.spread.situations import Situation
from slipway.errors import Failed, NotFound, SlipwayError

log = logging.getLogger(__name__)
_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Shifting:
    """For mending: nobody waits for it, and what does not work now is tried again."""

    members: Members
    placements: Placements
    parts: Parts
    ready_seconds: float = 180.0

    def is_due(self, situation: Situation) -> bool:
        """Whether the app is not where it should be, or something of it is where it should no longer be."""
        recorded = situation.recorded
        moves = not situation.stored or not situation.choice.is_so(recorded)
        return moves or bool(self._leftovers(recorded, situation.choice))

    async def shift(self, app: AppRef, wanted: Wanted, situation: Situation, confirm: Confirm) -> Placement:
        """What failed is left at once; everything else is given away when those who take it are ready.

        Returns where the app is now. Raises what an engine does; the app is where it was then.
        """
        choice = situation.choice
        if not situation.stored:
            await confirm()
            await self.placements.put(app, situation.recorded)
        recorded = await self.flee(app, situation, confirm)
        if choice.is_so(recorded) or not all(self.members.health(name).well for name in choice.weights):
            return recorded
        return await self._give(app, wanted, recorded, choice, confirm)

    async def flee(self, app: AppRef, situation: Situation, confirm: Confirm) -> Placement:
        """Records that others carry what those carried that have failed; makes nothing there."""
        recorded = situation.recorded
        fled = without(recorded, situation.failed, situation.choice, iso(now()))
        if fled is not recorded:
            await confirm()
            gone = ", ".join(sorted(recorded.weights.keys() - fled.weights.keys()))
            log.warning("%s: %s failed, its share goes to %s", app, gone, ", ".join(sorted(fled.weights)))
            await self.put(app, recorded, fled)
        return fled

    async def put(self, app: AppRef, before: Placement, after: Placement) -> None:
        """Records that it is ``after``, and in the audit what went from where to where."""
        shift = shift_of(before, after, lambda name: self.members.health(name).reason)
        await self.placements.put(app, after, shift)

    async def comes_to_fail(self, name: str, seconds: float) -> bool:
        """Whether a cluster that is not well is seen within ``seconds`` to have failed, and not to be well again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (health := self.members.health(name)).well:
                    if health.failed:
                        return True
                    await asyncio.sleep(_PAUSE)
        return False

    async def _give(
        self, app: AppRef, wanted: Wanted, recorded: Placement, choice: Choice, confirm: Confirm
    ) -> Placement:
        """First up there, then down here: the latter is for those who mend by the record that is returned."""
        await confirm()
        after = settled(recorded, choice, keep_home=True)
        await self.placements.put(app, replace(recorded, on=after.on))
        grown: dict[str, Wanted] = {}
        for name in after.weights:
            part = self.parts.of(app, wanted, name, after)
            if name not in recorded.weights:
                grown[name] = part
            elif not choice.whole:
                before = self.parts.of(app, wanted, name, recorded)
                part = larger(part, before)
                if dict(part.scale) != dict(before.scale):
                    grown[name] = part
        for name, part in grown.items():
            log.info("%s: its share comes up on %s", app, name)
            await (await self.members.engine(name)).mend(app, part, repair=True, confirm=confirm)
        await self._until_they_serve(app, grown)
        await self.put(app, recorded, after)
        return after

    async def _until_they_serve(self, app: AppRef, parts: Mapping[str, Wanted]) -> None:
        """Raises ``Failed``; what runs there by then stays, and those who had the shares keep them."""
        try:
            async with asyncio.timeout(self.ready_seconds):
                for name, part in parts.items():
                    engine = await self.members.engine(name)
                    while not await engine.serves(app, part):
                        await asyncio.sleep(_PAUSE)
        except TimeoutError as error:
            where = ", ".join(parts)
            raise Failed(
                f"its share did not get healthy on {where} within {self.ready_seconds:g} s"
            ) from error

    async def clear(self, app: AppRef, recorded: Placement, choice: Choice) -> None:
        """Ends what is where the app no longer is, its data aside. What fails is tried with the next mending."""
        for name in self._leftovers(recorded, choice):
            try:
                await (await self.members.engine(name)).remove(app, False, silent)
            except NotFound:
                log.info("%s: the cluster %s is not known any more", app, name)
            except SlipwayError as error:
                log.warning("%s: what is left on %s could not be removed: %s", app, name, error)
                continue
            away = {key: since for key, since in recorded.away.items() if key != name}
            recorded = replace(recorded, on=recorded.on - {name}, away=away)
            await self.placements.put(app, recorded)

    def _leftovers(self, recorded: Placement, choice: Choice) -> list[str]:
        """Only of clusters that answer, and not of those where it is to come up."""
        gone = recorded.on - recorded.weights.keys() - choice.weights.keys()
        return sorted(name for name in gone if self.members.health(name).well)
