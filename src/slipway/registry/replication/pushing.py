"""Giving a site what changed here."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from slipway.base.throttle import Throttle
from slipway.distribution import RemoteRegistry
from slipway.distribution.together import several
from slipway.errors import Denied, Invalid, NotFound, SlipwayError
from slipway.oci import Reference
from slipway.registry.feed import Change, Feed
from slipway.registry.registry import Registry
from slipway.registry.replication.giving import Giving
from slipway.registry.replication.sites import SLIPWAY, SiteRecord, Sites, count

log = logging.getLogger(__name__)
BATCH = 100
_MOST_AGAIN = 1000
_Failed = tuple[Change, SlipwayError]


class Pushing:
    """Changes in batches, several at once; what the site refuses is told, and tried again the next time."""

    def __init__(self, registry: Registry, sites: Sites, feed: Feed) -> None:
        self._registry = registry
        self._sites = sites
        self._feed = feed

    async def run(self, site: SiteRecord, remote: RemoteRegistry, state: dict[str, Any]) -> None:
        throttle = Throttle(int(site.options.get("bandwidth") or 0))
        giving = Giving(
            self._registry, remote, throttle, slipway=site.kind == SLIPWAY,
            deletions=bool(site.options.get("deletions")),
        )  # fmt: skip
        made: set[str] = set()
        cursor = site.cursor
        failed = await self._given(
            site, giving, remote, await self._named(state.get("again", [])), state, made
        )
        state["again"] = _names(failed)
        while changes := await self._feed.since(cursor, BATCH):
            failed += await self._given(site, giving, remote, changes, state, made)
            if len(failed) > _MOST_AGAIN:
                raise _refused(failed)  # no further than what can be kept for the next time
            state["again"] = _names(failed)
            cursor = changes[-1].sequence
            await self._sites.save(site.name, cursor=cursor, state=state)
        if failed:
            raise _refused(failed)

    async def _named(self, names: list[list[str]]) -> list[Change]:
        found = [await self._feed.of(repository, tag) for repository, tag in names]
        return [change for change in found if change is not None]

    async def _given(
        self, site: SiteRecord, giving: Giving, remote: RemoteRegistry, changes: list[Change], state: dict[str, Any],
        made: set[str],
    ) -> list[_Failed]:  # fmt: skip
        """Give what the site wants; what it refuses, one by one. Raises when the site is not there or is full."""

        async def give(change: Change) -> SlipwayError | None:
            target = Reference(site.there(change.repository), site.host, change.tag)
            try:
                await self._project_there(site, remote, target, made)
                if await giving.give(change, target, site.filter, lambda size: count(state, size)):
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


def _names(failed: list[_Failed]) -> list[list[str]]:
    return [list(name) for name in dict.fromkeys((change.repository, change.tag) for change, _ in failed)]


def _refused(failed: list[_Failed]) -> Invalid:
    change, error = failed[0]
    return Invalid(f"{len(failed)} tags were refused, {change.repository}:{change.tag}: {error.message}")
