"""Pods of builds where a quota is used up or no node has room: what is tried, what gives way, what is left."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from slipway.build.pods import idle, launcher, patience
from slipway.build.pods.builder import Daemon, NoRoom, Place
from slipway.build.pods.desk import Desk, WorkerLost
from slipway.build.pods.idle import IdleBounds
from slipway.build.pods.launcher import KubernetesLauncher
from slipway.build.pods.manifests import PROJECT, Site, home_of
from slipway.build.pods.volumes import CacheVolume
from slipway.build.sandbox import Limits
from slipway.build.solve import Reporter
from slipway.errors import Conflict, Exhausted, NotFound, Unavailable

PLACE = Place("b", "shop", Limits(1, 1 << 30, 1, 3600, 1 << 30), "east")
REPORTER = Reporter("b", "web", lambda _: None)


class East:
    """A cluster, and what builds have ``there``. ``room`` says of which projects' Pods the worker comes in.

    ``unheard``: kinds of which it makes one, and does not say so.
    """

    def __init__(self) -> None:
        self.volume: CacheVolume | None = None
        self.desk = Desk()
        self.full: set[str] = set()
        self.unheard: set[str] = set()
        self.room = {"shop", "farm"}
        self.there: dict[tuple[str, str], dict[str, Any]] = {}
        self.rules: dict[tuple[str, str], dict[str, Any]] = {}

    async def choose(self, project: str, cluster: str) -> str:
        return cluster

    async def client(self, cluster: str) -> Any:
        return self

    async def site(self, cluster: str) -> Site:
        return Site("image", "https://server", [], "mark", volume=self.volume)

    async def docker_image(self, cluster: str) -> str:
        return "docker"

    async def names(self) -> list[str]:
        return ["east"]

    async def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        return self.rules.get((kind, name)) or self.there.get((kind, name))

    async def apply(self, item: dict[str, Any]) -> None:
        self.rules[item["kind"], item["metadata"]["name"]] = item

    async def create(self, item: dict[str, Any]) -> None:
        kind, name = item["kind"], item["metadata"]["name"]
        if kind in self.full:
            raise Exhausted(f"quota of {kind}s")
        if (kind, name) in self.there:
            raise Conflict("it exists already")
        self.there[kind, name] = item
        if kind in self.unheard:
            self.unheard.remove(kind)
            raise Unavailable("no answer")
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


async def test_a_quota_of_daemons_is_none_of_those_that_wait() -> None:
    east = East()
    found = KubernetesLauncher(east, "mark", IdleBounds(1))
    async with found.started(PLACE, east.desk, REPORTER) as worker:
        await worker.seat()
        await until(lambda: len(east.projects()) == 2)
    await until(lambda: east.projects() == ["shop"])
    east.full = {"Secret"}
    with pytest.raises(NoRoom):
        async with found.started(replace(PLACE, daemon=Daemon("d", "dind")), east.desk, REPORTER):
            raise AssertionError("there is none")
    await asyncio.sleep(0)
    assert len(found._idle._waiting) == 1
    await found.close()


async def test_a_namespace_that_went_with_its_project_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle, "_FIRST_PAUSE", 0.001)
    east = East()
    home = ("Namespace", home_of(PLACE))
    looked = 0
    get = east.get

    async def noted(kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        nonlocal looked
        looked += kind == "Namespace"
        return await get(kind, name, namespace)

    monkeypatch.setattr(east, "get", noted)
    found = KubernetesLauncher(east, "mark", IdleBounds(1))
    async with found.started(PLACE, east.desk, REPORTER) as worker:
        await worker.seat()
        await until(lambda: [item.pod is not None for item in found._idle._waiting] == [True])
        (waiting,) = found._idle._waiting
        assert waiting.pod is not None
        del east.rules[home]
        waiting.pod.over.set_exception(WorkerLost("the Pod is gone"))
        before = looked
        await until(lambda: looked > before + 1)  # another was tried to be started, more than once
    assert home not in east.rules
    with pytest.raises(NotFound, match="the builds of shop was removed"):
        async with found.started(replace(PLACE, attempt=2), east.desk, REPORTER):
            raise AssertionError("there is none")
    async with found.started(PLACE, east.desk, REPORTER):
        assert home in east.rules
    await found.close()


async def test_what_is_left_out_is_told_when_there_is_room() -> None:
    east = East()
    east.volume = CacheVolume(1 << 30)
    said: list[str] = []
    reporter = Reporter("b", "web", lambda event: said.append(str(event.get("text"))))
    found = KubernetesLauncher(east, "mark")
    async with found.started(PLACE, east.desk, REPORTER):
        east.full = {"Pod"}
        again = replace(PLACE, keeps=True, attempt=2)
        for _ in range(3):
            with pytest.raises(NoRoom):
                async with found.started(again, east.desk, reporter):
                    raise AssertionError("there is none")
        assert said == []
        east.full = set()
        async with found.started(again, east.desk, reporter):
            assert len(said) == 1
            assert "left out after a worker was lost" in said[0]
    await found.close()


@pytest.mark.parametrize(("many", "pods"), [(False, 1), (True, 2)])
async def test_nobody_waits_for_builds_that_could_not_take_them(many: bool, pods: int) -> None:
    east = East()
    east.volume = CacheVolume(1 << 30, many=many)
    found = KubernetesLauncher(east, "mark", IdleBounds(1))
    async with found.started(replace(PLACE, keeps=True), east.desk, REPORTER) as worker:
        await worker.seat()
        for _ in range(100):  # as often as it takes one to be there
            await asyncio.sleep(0)
        assert len(east.projects()) == pods
    await found.close()


async def test_where_a_quota_refuses_the_volume_a_build_does_without_and_says_so_when_it_begins() -> None:
    east = East()
    east.volume = CacheVolume(1 << 30)
    east.full = {"PersistentVolumeClaim", "Pod"}
    said: list[str] = []
    reporter = Reporter("b", "web", lambda event: said.append(str(event.get("text"))))
    found = KubernetesLauncher(east, "mark")
    with pytest.raises(NoRoom):
        async with found.started(replace(PLACE, keeps=True), east.desk, reporter):
            raise AssertionError("there is none")
    assert said == []
    east.full = {"PersistentVolumeClaim"}
    async with found.started(replace(PLACE, keeps=True), east.desk, reporter) as worker:
        await worker.seat()
        (pod,) = (item for (kind, _), item in east.there.items() if kind == "Pod")
    assert [item["name"] for item in pod["spec"]["volumes"]] == ["keys", "work"]
    (text,) = said
    assert "kept directories are left out" in text
    assert "quota of PersistentVolumeClaims" in text
    await found.close()


async def test_a_volume_that_was_made_unheard_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PAUSE", 0.0)
    east = East()
    east.volume = CacheVolume(1 << 30)
    east.unheard = {"PersistentVolumeClaim"}
    found = KubernetesLauncher(east, "mark")
    async with found.started(replace(PLACE, keeps=True), east.desk, REPORTER) as worker:
        await worker.seat()
    assert [kind for kind, _ in east.there] == ["PersistentVolumeClaim"]
    await found.close()


async def test_a_pod_lives_long_enough_to_come_in_to_wait_and_to_build() -> None:
    east = East()
    for bounds, seconds in ((IdleBounds(0, 600), 3660), (IdleBounds(1, 600), 3660 + 600 + 180)):
        found = KubernetesLauncher(east, "mark", bounds)
        async with found.started(PLACE, east.desk, REPORTER):
            (pod,) = (item for (kind, _), item in east.there.items() if kind == "Pod")
            assert pod["spec"]["activeDeadlineSeconds"] == seconds
        await found.close()
