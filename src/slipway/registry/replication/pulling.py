"""Taking from a site what changed there."""

from __future__ import annotations

from contextlib import aclosing
from itertools import pairwise
from typing import Any

from slipway.access import Access
from slipway.base.throttle import Throttle
from slipway.distribution import RemoteRegistry
from slipway.distribution.together import several
from slipway.errors import Denied, Invalid, NotFound
from slipway.oci import Digest, Reference
from slipway.registry.feed import Change
from slipway.registry.registry import Registry
from slipway.registry.replication.intake import Intake
from slipway.registry.replication.pushing import BATCH
from slipway.registry.replication.sites import SLIPWAY, SiteRecord, Sites, count
from slipway.state import Database

_PATIENCE_SECONDS = 10


class Pulling:
    """By the list of changes of another Slipway; by comparing all tags of any other registry."""

    def __init__(self, database: Database, registry: Registry, sites: Sites, access: Access) -> None:
        self._database = database
        self._registry = registry
        self._sites = sites
        self._access = access

    async def run(
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
                    await self._sites.save(site.name, cursor=cursor)
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
                await intake.image(there, repository, lambda size: count(state, size))
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
                await intake.image(tagged.with_digest(digest), repository, lambda size: count(state, size))
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
