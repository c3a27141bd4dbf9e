"""Pods of builds where a quota is used up or no node has room: what is tried, what gives way, what is left."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from slipway.build.pods import launcher
from slipway.build.pods.builder import NoRoom, Place
from slipway.build.pods.desk import Desk
from slipway.build.pods.idle import IdleBounds
from slipway.build.pods.launcher import KubernetesLauncher
from slipway.build.pods.manifests import PROJECT, Site
from slipway.build.sandbox import Limits
from slipway.build.solve import Reporter
from slipway.errors import Exhausted

PLACE = Place("b", "shop", Limits(1, 1 << 30, 1, 3600, 1 << 30), "east")
REPORTER = Reporter("b", "web", lambda _: None)


class East:
    """A cluster, and what builds have ``there``. ``room`` says of which projects' Pods the worker comes in."""

    volume = None

    def __init__(self) -> None:
        self.desk = Desk()
        self.full: set[str] = set()
        self.room = {"shop", "farm"}
        self.there: dict[tuple[str, str], dict[str, Any]] = {}
        self.rules: dict[tuple[str, str], dict[str, Any]] = {}

    async def choose(self, project: str, cluster: str) -> str:
        return cluster

    async def client(self, cluster: str) -> Any:
        return self

    async def site(self, cluster: str) -> Site:
        return Site("image", "https://server", [], "mark")

    async def docker_image(self, cluster: str) -> str:
        return "docker"

    async def names(self) -> list[str]:
        return ["east"]

    async def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        return self.rules.get((kind, name))

    async def apply(self, item: dict[str, Any]) -> None:
        self.rules[item["kind"], item["metadata"]["name"]] = item

    async def create(self, item: dict[str, Any]) -> None:
        kind, name = item["kind"], item["metadata"]["name"]
        if kind in self.full:
            raise Exhausted(f"quota of {kind}s")
        self.there[kind, name] = item
        if kind == "Pod" and item["metadata"]["labels"][PROJECT] in self.room:
            self.desk.join(base64.b64decode(self.there["Secret", name]["data"]["token"]).decode())

    async def delete(self, kind: str, name: str, namespace: str) -> None:
        self.there.pop((kind, name), None)

    async def watch(self, kind: str, namespace: str, chosen: object) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield None

    def projects(self) -> list[str]:
        """Of all Pods."""
        return [
            item["metadata"]["labels"][PROJECT] for (kind, _), item in self.there.items() if kind == "Pod"
        ]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", ["Secret", "Pod"])
async def test_a_quota_of_either_is_no_room_and_nothing_stays(kind: str) -> None:
    east = East()
    found = KubernetesLauncher(east, "mark")
    east.full = {kind}
    with pytest.raises(NoRoom, match=f"quota of {kind}s"):
        async with found.started(PLACE, east.desk, REPORTER):
            raise AssertionError("there is none")
    assert east.there == {}
    await found.close()


async def test_who_waits_gives_way_to_builds_of_its_project_without_quota_and_to_all_without_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launcher, "_ROOM_SECONDS", 0.01)
    east = East()
    found = KubernetesLauncher(east, "mark", IdleBounds(1))
    other = replace(PLACE, project="farm")
    for place, projects in ((PLACE, ["shop"]), (other, ["farm", "shop"])):
        async with found.started(place, east.desk, REPORTER) as worker:
            await worker.seat()
            await until(lambda count=len(projects) + 1: len(east.projects()) == count)  # type: ignore[misc]
        await until(lambda wanted=projects: sorted(east.projects()) == wanted)  # type: ignore[misc]

    another = replace(PLACE, limits=replace(PLACE.limits, seconds=7))  # it is of a kind that nobody waits for
    east.full = {"Pod"}
    with pytest.raises(NoRoom):
        async with found.started(another, east.desk, REPORTER):
            raise AssertionError("there is none")
    await until(lambda: east.projects() == ["farm"])
    east.full, east.room = set(), set()
    async with found.started(another, east.desk, REPORTER):
        await until(lambda: east.projects() == ["shop"])
    await until(lambda: east.there == {})
    await found.close()
