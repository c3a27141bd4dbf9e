"""Replication with every site, for as long as the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from slipway.access import Access
from slipway.base.clock import iso, now
from slipway.distribution import RemoteRegistry
from slipway.errors import Conflict, Denied, Invalid, NotFound, SlipwayError
from slipway.registry import clock
from slipway.registry.feed import Feed
from slipway.registry.registry import Registry
from slipway.registry.replication.pulling import Pulling
from slipway.registry.replication.pushing import Pushing
from slipway.registry.replication.sites import OTHER, SLIPWAY, SiteRecord, Sites
from slipway.state import Database

log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
_ASK_SECONDS = 300.0
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far replication with a site is. ``lag``: for how many seconds the oldest pending change waits."""

    pending: int
    lag: float


@dataclass(slots=True)
class _Site:
    """What runs for one site."""

    task: asyncio.Task[None]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Replicator:
    """One task a site; a site that fails is tried again, ever more slowly, and keeps nobody else waiting."""

    def __init__(self, database: Database, registry: Registry, sites: Sites, access: Access) -> None:
        self.sites = sites
        self.feed = Feed(database)
        self._pushing = Pushing(registry, sites, self.feed)
        self._pulling = Pulling(database, registry, sites, access)
        self._running: dict[str, _Site] = {}

    async def run_forever(self) -> None:
        try:
            while True:
                await self._attend()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for item in self._running.values():
                item.task.cancel()
            await asyncio.gather(*(item.task for item in self._running.values()), return_exceptions=True)

    async def _attend(self) -> None:
        """A task for every site there is, none for those that are gone."""
        try:
            names = {site.name for site in await self.sites.all()}
        except SlipwayError as error:
            log.warning("the sites cannot be read: %s", error.message)
            return
        for name in set(self._running) - names:
            self._running.pop(name).task.cancel()
        for name in names - set(self._running):
            self._running[name] = _Site(asyncio.create_task(self._attended(name)))

    async def _attended(self, name: str) -> None:
        failures = 0
        while True:
            try:
                await self.sync(name)
                failures = 0
            except SlipwayError as error:
                failures += 1
                log.warning("replication with %s: %s", name, error.message)
            except Exception:
                failures += 1
                log.exception("replication with %s", name)
            pause = min(_LONGEST_PAUSE, 2.0 ** min(failures, 10)) if failures else 0.0
            await self._rest(name, pause)

    async def _rest(self, name: str, pause: float) -> None:
        """Until there is something to do: after ``pause``, by the site's schedule, at a change or when woken."""
        item, site = self._running.get(name), await self._known(name)
        if item is None:
            return
        every = float(site.options.get("every") or 0) if site is not None else _LOOK_SECONDS
        if site is not None and not every and site.direction == "pull" and site.kind != SLIPWAY:
            every = _ASK_SECONDS
        if every or pause:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(every, pause)):
                    await item.wake.wait()
        elif site is not None and site.direction == "push":
            while not item.wake.is_set() and not await self._moved_since(name):
                await asyncio.sleep(_LOOK_SECONDS)
        item.wake.clear()  # a Slipway that we pull from is asked again at once: it answers when it has something

    async def _known(self, name: str) -> SiteRecord | None:
        try:
            return await self.sites.get(name)
        except SlipwayError:
            return None

    async def _moved_since(self, name: str) -> bool:
        """Also when that cannot be told: whoever looks then will see why."""
        try:
            return await self.feed.head() > (await self.sites.get(name)).cursor
        except SlipwayError:
            return True

    async def sync(self, name: str, *, patient: bool = True) -> None:
        """Everything there is to do now. Raises what keeps it from being done, which the site's state says, too.

        ``patient``: another Slipway may answer late, when something has changed.
        """
        item = self._running.get(name)
        async with item.lock if item else asyncio.Lock():
            site = await self.sites.get(name)
            state: dict[str, Any] = dict(site.state)
            try:
                async with site.connect() as remote:
                    site = await self._introduced(site, remote)
                    if site.direction == "push":
                        await self._pushing.run(site, remote, state)
                    else:
                        await self._pulling.run(site, remote, state, patient)
                state |= {"last_success": iso(now()), "error": ""}
            except SlipwayError as error:
                state["error"] = error.message
                raise
            finally:
                await asyncio.shield(self.sites.save(name, state=state))

    def wake(self, name: str) -> None:
        """Try now instead of after the pause."""
        if (item := self._running.get(name)) is not None:
            item.wake.set()

    async def _introduced(self, site: SiteRecord, remote: RemoteRegistry) -> SiteRecord:
        """Whether the other site is a Slipway is asked once; that it is ourselves would never end."""
        if site.kind:
            return site
        try:
            answer = await remote.extension("GET", "_slipway/site")
            kind = SLIPWAY if isinstance(answer, dict) and answer.get("site") else OTHER
        except (NotFound, Denied, Invalid):
            answer, kind = {}, OTHER
        if kind == SLIPWAY and answer["site"] == await self.feed.site():
            raise Conflict(
                f"the site {site.name!r} is this registry itself", hint=f"slipway site rm {site.name}"
            )
        await self.sites.save(site.name, kind=kind)
        return await self.sites.get(site.name)

    # How far it is

    async def progress(self, site: SiteRecord) -> Progress:
        """Of a site that we push to, from our own changes; of one we pull from, as of when it was last asked."""
        if site.direction == "push":
            pending = await self.feed.since(site.cursor, 10_000)
            wanted = [change for change in pending if site.filter.wants(change.repository, change.tag)]
            count = len(wanted) + len(site.state.get("again") or ())
            oldest = clock.seconds(wanted[0].sequence) if wanted else None
            return Progress(count, max(0.0, time.time() - oldest) if oldest else 0.0)
        head = int(site.state.get("head") or 0)
        if site.kind == SLIPWAY and head > site.cursor:
            return Progress(1, max(0.0, clock.seconds(head) - clock.seconds(site.cursor)))
        last = site.state.get("last_success")
        if site.state.get("error") and last:
            return Progress(0, (now() - datetime.fromisoformat(last)).total_seconds())
        return Progress(0, 0.0)
