"""Where a project's builds are in a cluster: a namespace with its rules, and the volume of what they keep."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Protocol

from slipway.build.pods import manifests
from slipway.build.pods.builder import Place
from slipway.build.pods.manifests import Site
from slipway.build.pods.patience import Tell, created, patiently
from slipway.build.pods.volumes import EMPTY
from slipway.errors import Exhausted, NotFound
from slipway.kubernetes import ClusterClient


class Sites(Protocol):
    async def site(self, cluster: str) -> Site: ...


class Homes:
    """One event loop has it: two builds of a project do not make its namespace at the same time."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}

    async def prepared(
        self, place: Place, client: ClusterClient, tell: Tell, lacks: Tell, *, makes: bool
    ) -> tuple[Site, Place]:
        """The site, and the place as it can be had there, after the namespace of the project's builds and its rules are
        what they should be.

        Looked at before each build, since one whose rules somebody changed would be cut off, or let out. With
        ``makes`` the namespace is made if there is none: one that goes meanwhile goes with its project, and stays gone.
        Raises ``NotFound`` then.
        """
        name = manifests.home_of(place)
        async with self._turns.setdefault((place.cluster, name), asyncio.Lock()):
            found = await patiently(lambda: client.get("Namespace", name), tell)
            if found is None and not makes:
                raise NotFound(f"the namespace {name} of the builds of {place.project} was removed")
            if found is None:
                await patiently(lambda: client.apply(manifests.namespace(place)), tell)
            else:
                manifests.check_namespace(place, found)
            site = await self._sites.site(place.cluster)
            for item in manifests.policies(site, place):
                await patiently(partial(client.apply, item), tell)
            return site, await self._with_volume(place, site, client, tell, lacks)

    async def _with_volume(
        self, place: Place, site: Site, client: ClusterClient, tell: Tell, lacks: Tell
    ) -> Place:
        """After the project has the volume that ``place`` keeps things on; without it where a quota is against that."""
        if not place.keeps or site.volume is None:
            return place
        claim = manifests.claim(site, place, site.volume)
        there = partial(client.get, claim["kind"], claim["metadata"]["name"], manifests.home_of(place))
        try:
            if await patiently(there, tell) is None:
                await created(client, claim, tell)
        except Exhausted as error:
            lacks(f"the project's kept directories are left out, {EMPTY}: {error.message}")
            return replace(place, keeps=False)
        return place
