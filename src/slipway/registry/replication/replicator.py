"""Replication with every site, for as long as the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from slipway.access import Access
from slipway.base.clock import iso, now
from slipway.base.throttle import Throttle
from slipway.distribution import RemoteRegistry
from slipway.distribution.together import several
from slipway.errors import Conflict, Denied, Invalid, NotFound, SlipwayError
from slipway.oci import Digest, Reference
from slipway.registry import clock
from slipway.registry.feed import Change, Feed
from slipway.registry.registry import Registry
from slipway.registry.replication.giving import Giving
from slipway.registry.replication.intake import Intake
from slipway.registry.replication.sites import OTHER, SLIPWAY, SiteRecord, Sites
from slipway.state import Database

log = logging.getLogger(__name__)
BATCH = 100
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 10
_ASK_SECONDS = 300.0
_LONGEST_PAUSE = 60.0
_MOST_AGAIN = 1000


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
        self._database = database
        self._registry = registry
        self._access = access
        self.sites = sites
        self.feed = Feed(database)
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
            except NotFound:
                return
            except SlipwayError as error:
                failures += 1
                log.warning("replication with %s: %s", name, error.message)
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
                    work = self._push if site.direction == "push" else self._pull
                    await work(site, remote, state, patient)
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

    # Push

    async def _push(
        self, site: SiteRecord, remote: RemoteRegistry, state: dict[str, Any], _patient: bool
    ) -> None:
        throttle = Throttle(int(site.options.get("bandwidth") or 0))
        giving = Giving(
            self._registry, remote, throttle, slipway=site.kind == SLIPWAY,
            deletions=bool(site.options.get("deletions")),
        )  # fmt: skip
        made: set[str] = set()
        cursor = site.cursor
        again: list[list[str]] = state.pop("again", [])
        failed = await self._given(site, giving, remote, await self._named(again), state, made)
        while changes := await self.feed.since(cursor, BATCH):
            failed += await self._given(site, giving, remote, changes, state, made)
            cursor = changes[-1].sequence
            await self.sites.save(site.name, cursor=cursor)
        state["again"] = [[change.repository, change.tag] for change, _ in failed][:_MOST_AGAIN]
        if failed:
            change, error = failed[0]
            raise Invalid(
                f"{len(failed)} tags were refused, {change.repository}:{change.tag}: {error.message}"
            )

    async def _named(self, names: list[list[str]]) -> list[Change]:
        found = [await self.feed.of(repository, tag) for repository, tag in names]
        return [change for change in found if change is not None]

    async def _given(
        self, site: SiteRecord, giving: Giving, remote: RemoteRegistry, changes: list[Change], state: dict[str, Any],
        made: set[str],
    ) -> list[tuple[Change, SlipwayError]]:  # fmt: skip
        """Give what the site wants; what it refuses, one by one. Raises when the site is not there or is full."""

        async def give(change: Change) -> SlipwayError | None:
            target = Reference(site.there(change.repository), site.host, change.tag)
            try:
                await self._project_there(site, remote, target, made)
                if await giving.give(change, target, site.filter, lambda size: _count(state, size)):
                    state["images"] = state.get("images", 0) + 1
            except (Invalid, Denied, NotFound) as error:
                return error
            return None

        wanted = [change for change in changes if site.filter.wants(change.repository, change.tag)]
        async with aclosing(several(wanted, give, site.at_once)) as given:
            return [(change, error) async for change, error in given if error is not None]

    async def _project_there(
        self, site: SiteRecord, remote: RemoteRegistry, target: Reference, made: set[str]
    ) -> None:
        project = target.repository.partition("/")[0]
        if site.kind == SLIPWAY and project not in made:
            try:
                await remote.extension("PUT", f"_slipway/projects/{quote(project)}")
            except Denied:
                log.info("%s does not let us make projects; %s has to be there", site.name, project)
            made.add(project)

    # Pull

    async def _pull(
        self, site: SiteRecord, remote: RemoteRegistry, state: dict[str, Any], patient: bool
    ) -> None:
        throttle = Throttle(int(site.options.get("bandwidth") or 0))
        intake = Intake(self._database, self._registry, remote, throttle)
        if site.kind == SLIPWAY:
            await self._follow_feed(site, remote, intake, state, patient)
        else:
            await self._follow_tags(site, remote, intake, state)

    async def _follow_feed(
        self, site: SiteRecord, remote: RemoteRegistry, intake: Intake, state: dict[str, Any], patient: bool
    ) -> None:
        cursor = site.cursor
        wait = _PATIENCE_SECONDS if patient and not site.options.get("every") else 0
        while True:
            answer = await remote.extension("GET", f"_slipway/changes?after={cursor}&n={BATCH}&wait={wait}")
            try:
                changes = [Change.parse(item) for item in answer["changes"]]
                state["head"] = int(answer["head"])
            except (KeyError, TypeError, ValueError) as error:
                raise Invalid(f"{site.name} sent a malformed list of changes") from error
            if not changes:
                break
            numbers = [cursor, *(change.sequence for change in changes)]
            if any(after <= before for before, after in pairwise(numbers)):
                raise Invalid(f"{site.name} sent changes that are out of order")

            async def take(change: Change) -> None:
                await self._take(site, intake, change, state)

            async with aclosing(several(changes, take, site.at_once)) as taken:
                async for change, _ in taken:
                    cursor = change.sequence
                    await self.sites.save(site.name, cursor=cursor)
            wait = 0

    async def _take(self, site: SiteRecord, intake: Intake, change: Change, state: dict[str, Any]) -> None:
        if not site.filter.wants(change.repository, change.tag):
            return
        repository = site.here(change.repository)
        if not change.digest and not site.options.get("deletions"):
            return
        await self._project_here(repository)
        if change.digest:
            there = Reference(change.repository, site.host, digest=Digest.parse(change.digest))
            try:
                await intake.image(there, repository, lambda size: _count(state, size))
            except NotFound:
                return  # removed over there since: the next change says so
            state["images"] = state.get("images", 0) + 1
        await intake.move(repository, change.tag, change.digest, change.moved)

    async def _follow_tags(
        self, site: SiteRecord, remote: RemoteRegistry, intake: Intake, state: dict[str, Any]
    ) -> None:
        """Of a registry that has no list of changes: every tag, compared."""
        by = f"site:{site.name}"
        for name in await self._repositories(site, remote):
            there = Reference(name, site.host)
            repository = site.here(name)
            names = [tag for tag in await remote.tags(there) if site.filter.wants(name, tag)]
            await self._project_here(repository)

            async def follow(tagged: Reference, repository: str = repository) -> None:
                digest = await remote.digest_of(tagged)
                if digest is None:
                    return
                await intake.image(tagged.with_digest(digest), repository, lambda size: _count(state, size))
                if await intake.follow(repository, tagged.tag, digest, by):
                    state["images"] = state.get("images", 0) + 1

            tagged = [Reference(name, site.host, tag) for tag in names]
            async with aclosing(several(tagged, follow, site.at_once)) as followed:
                async for _ in followed:
                    pass
            if site.options.get("deletions"):
                await self._drop(repository, set(names), by)

    async def _repositories(self, site: SiteRecord, remote: RemoteRegistry) -> list[str]:
        """Those that are named, and where wildcards or nothing name them, what the catalog has."""
        named = site.filter.repositories
        if named and not any(char in name for name in named for char in "*?["):
            return list(named)
        try:
            found = await remote.catalog()
        except (NotFound, Denied, Invalid) as error:
            raise Invalid(
                f"{site.name} has no catalog: {error.message}", hint="name the repositories with --repository"
            ) from error
        return [name for name in found if site.filter.wants_repository(name)]

    async def _drop(self, repository: str, there: set[str], by: str) -> None:
        """Tags that came from the site and are gone there."""
        for tag in await self._registry.lists.tags_by(repository, by):
            if tag not in there:
                await self._registry.delete_manifest(repository, tag, by, own=True, whole=True)

    async def _project_here(self, repository: str) -> None:
        project = repository.partition("/")[0]
        try:
            await self._access.project(project)
        except NotFound:
            await self._access.create_project(project)

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


def _count(state: dict[str, Any], size: int) -> None:
    state["bytes"] = state.get("bytes", 0) + size
