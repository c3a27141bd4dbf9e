"""Following what happens to the objects of a kind, over everything that ends a watch.

A watch ends all the time: the API server closes it after some minutes, restarts, forgets the version we had (410), a
connection breaks. What a consumer sees is one stream: what there is, then every change after it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from slipway.errors import (
    Denied,
    Exhausted,
    Interrupted,
    NotFound,
    SlipwayError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from slipway.kubernetes.answers import Expired, error_of
from slipway.kubernetes.discovery import Discovery, Resource
from slipway.kubernetes.lines import lines
from slipway.kubernetes.listing import list_all
from slipway.kubernetes.transport import Transport

_LONGEST_EVENT = 8 * 1024 * 1024
_LASTS = 240  # seconds after which the server is asked to end a watch, and somewhat more
_SLOWEST = 30.0
_REFUSALS = 6
_KINDS: dict[str, Literal["added", "modified", "deleted"]] = {
    "ADDED": "added",
    "MODIFIED": "modified",
    "DELETED": "deleted",
}


@dataclass(frozen=True, slots=True)
class Change:
    """``synced`` (with an empty object) comes after each complete listing: all there is has been told."""

    type: Literal["added", "modified", "deleted", "synced"]
    object: dict[str, Any] = field(default_factory=dict)


class Watch:
    """One stream of changes. Keeps of each object its metadata only, to tell what a new listing lacks."""

    def __init__(
        self, transport: Transport, discovery: Discovery, kind: str, namespace: str | None,
        params: Mapping[str, str], slowest: float = _SLOWEST,
    ) -> None:  # fmt: skip
        self._transport, self._discovery, self._kind = transport, discovery, kind
        self._namespace, self._params, self._slowest = namespace, dict(params), slowest
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        self._version = ""
        self._failures = self._refusals = 0
        self._began = False

    async def changes(self) -> AsyncGenerator[Change, None]:
        """Never ends by itself. Raises what the first listing does (but waits where the cluster does not answer),
        and later ``Denied`` or ``Unauthenticated`` when that stays so; ``Interrupted`` when the client is closed."""
        while True:
            try:
                resource = await self._discovery.find(self._kind)
                if not self._version:
                    for change in await self._relist(resource):
                        yield change
                async with aclosing(self._follow(resource)) as events:
                    async for change in events:
                        yield change
            except Expired:
                self._version = ""
            except Exhausted:
                if not self._began:
                    raise
                self._version = ""  # an event that is too large: the listing has its own limit
                await self._pause()
            except Unavailable:
                await self._pause()
            except Interrupted:
                raise  # the client was closed
            except SlipwayError as error:
                # A server that is starting refuses everybody for a moment, and does not know its add-ons' kinds yet.
                self._refusals += 1
                lasting = self._refusals >= _REFUSALS and isinstance(error, (Denied, Unauthenticated))
                if not self._began or lasting:
                    raise
                if isinstance(error, (NotFound, Unsupported)):
                    self._discovery.forget()
                self._version = ""
                await self._pause()

    async def _pause(self) -> None:
        self._failures += 1
        await asyncio.sleep(
            min(self._slowest, 0.1 * 2 ** min(self._failures, 10)) * (0.5 + random.random() / 2)
        )

    async def _relist(self, resource: Resource) -> list[Change]:
        listing = await list_all(self._transport, resource, self._namespace, self._params)
        self._refusals, self._began = 0, True
        before, self._known = self._known, {}
        told: list[Change] = []
        for item in listing.items:
            key, metadata = _key(item), _kept(item)
            old = before.pop(key, None)
            self._known[key] = metadata
            if old is not None and old["uid"] != metadata["uid"]:
                told.append(Change("deleted", _ghost(resource, old)))
                old = None
            if old is None:
                told.append(Change("added", item))
            elif old["resourceVersion"] != metadata["resourceVersion"]:
                told.append(Change("modified", item))
        self._version = listing.version
        missed = [Change("deleted", _ghost(resource, old)) for old in before.values()]
        return [*missed, *told, Change("synced")]

    async def _follow(self, resource: Resource) -> AsyncGenerator[Change, None]:
        seconds = _LASTS + random.randrange(60)
        params = {
            **self._params, "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }  # fmt: skip
        what = f"watch {resource.plural}"
        timeout = aiohttp.ClientTimeout(total=seconds + 30, connect=10)
        before = self._version
        async with self._transport.open(
            "GET", resource.path(self._namespace), what, params=params, timeout=timeout
        ) as response:
            async for line in lines(response.content, _LONGEST_EVENT, cut=False):
                change = self._event(line, resource, what)
                self._failures = self._refusals = 0
                if change is not None:
                    yield change
        if self._version == before:
            # Nothing came at all: a server that closes at once must not be asked in a circle.
            await self._pause()

    def _event(self, line: bytes, resource: Resource, what: str) -> Change | None:
        try:
            event = json.loads(line)
            kind, item = str(event["type"]), event["object"]
            if kind == "ERROR":
                raise error_of(item, int(item.get("code") or 500), what, self._transport.server)
            self._version = str(item["metadata"]["resourceVersion"])
            if kind == "BOOKMARK":
                return None
            item = {"apiVersion": resource.api_version, "kind": resource.kind, **item}
            if kind == "DELETED":
                self._known.pop(_key(item), None)
            else:
                self._known[_key(item)] = _kept(item)
            return Change(_KINDS[kind], item)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Expired(f"could not {what}: an event made no sense") from error


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    metadata = item["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata["name"])


def _kept(item: Mapping[str, Any]) -> dict[str, Any]:
    metadata = item["metadata"]
    kept = {
        key: metadata[key] for key in ("name", "namespace", "labels", "ownerReferences") if key in metadata
    }
    return {**kept, "uid": metadata.get("uid"), "resourceVersion": metadata.get("resourceVersion")}


def _ghost(resource: Resource, metadata: dict[str, Any]) -> dict[str, Any]:
    """What is known of an object whose end was missed."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
