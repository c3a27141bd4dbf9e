"""Workers that do not start or go away: what is waited for, what is blamed on a node, what ends a build."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.build.pods import builder, pod, starting
from slipway.build.pods.builder import Place, PodBuilder
from slipway.build.pods.desk import Desk, WorkerLost, WorkerRefused, WorkerUnpullable
from slipway.build.pods.launcher import KubernetesLauncher
from slipway.build.pods.manifests import BUILD, Site
from slipway.build.pods.pod import Pod
from slipway.build.pods.starting import Start
from slipway.build.pods.troubled import Troubled
from slipway.build.policy import IN_PLACE
from slipway.build.request import SolveRequest
from slipway.build.sandbox import Limits
from slipway.build.solve import Reporter
from slipway.errors import Exhausted, Failed, Unavailable
from slipway.kubernetes.watching import Change

PLACE = Place("b1", "shop", Limits(2, 4 << 30, 100, 3600, 8 << 30), "east")
SITE = Site("registry:1/w@sha256:00", "http://10.1.2.3:7070", [("10.1.2.3", 7070)], "mark")
SANDBOX = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox"


def test_nodes_that_lost_a_worker_are_known_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("slipway.build.pods.troubled.time", SimpleNamespace(monotonic=lambda: now))
    troubled = Troubled(seconds=300, most=3)
    worker = SimpleNamespace(cluster="east", node="n1")
    with pytest.raises(WorkerLost), troubled.noting(worker):
        raise WorkerLost("gone")
    with pytest.raises(Failed), troubled.noting(SimpleNamespace(cluster="east", node="n2")):
        raise Failed("the build's own mistake")
    with pytest.raises(WorkerLost), troubled.noting(SimpleNamespace(cluster="east", node="")):
        raise WorkerLost("nowhere")
    assert troubled.of("east") == {"n1"}
    assert troubled.of("west") == frozenset()
    now += 299
    troubled.add("west", "n1")
    assert troubled.of("east") == {"n1"}
    now += 2
    assert troubled.of("east") == frozenset()
    for number in range(10):
        troubled.add("east", f"n{number}")
    assert troubled.of("east") == {"n7", "n8", "n9"}, "the last ones"


def event(reason: str, message: str = "") -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"name": "p"}}


def still(name: str) -> dict[str, Any]:
    """A Pod that has a node and does not start there."""
    return {"metadata": {"name": name}, "spec": {"nodeName": "n1"}, "status": {"phase": "Pending"}}


class Cluster:
    """An API server whose Pods never start: ``pods`` and ``events`` are what it shows of them."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = list(events)
        self.made: list[dict[str, Any]] = []
        self.refuses = False

    async def create(self, item: dict[str, Any]) -> None:
        self.made.append(item)

    async def apply(self, item: dict[str, Any]) -> None:
        """Its rules are not looked at here."""

    async def get(self, *_words: str) -> None:
        """There is none of it yet."""

    async def delete(self, *_words: str) -> bool:
        return True

    async def list(self, *_words: object) -> SimpleNamespace:
        if self.refuses:
            raise Unavailable("no answer")
        return SimpleNamespace(items=self.events)

    async def watch(self, *_words: object) -> AsyncIterator[Change]:
        names = [item["metadata"]["name"] for item in self.made if item["kind"] == "Pod"] or ["p"]
        yield Change("added", still(names[-1]))
        await asyncio.Event().wait()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "_EVENTS_SECONDS", 0.01)
    monkeypatch.setattr(starting, "STILL_SECONDS", 0.1)


@pytest.mark.usefixtures("quick")
async def test_a_pod_in_a_broken_network_is_told_of_and_ends() -> None:
    said: list[str] = []
    events = [event("FailedCreatePodSandBox", SANDBOX), event("FailedMount", "not there"), event("Scheduled")]
    found = Pod(Cluster(*events), "p", "builds", Desk().ticket(), "east", said.append, labels={BUILD: "b1"})  # type: ignore[arg-type]
    tasks = [asyncio.create_task(found.watch()), asyncio.create_task(found.explain())]
    async with asyncio.timeout(30):
        with pytest.raises(WorkerLost, match="has not started"):
            await found.seat()
    assert said == [f"waiting: FailedCreatePodSandBox: {SANDBOX}", "waiting: FailedMount: not there"]
    assert found.node == "n1"
    for task in tasks:
        task.cancel()


async def test_a_pod_with_a_volume_is_waited_for_while_its_start_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pod, "_VOLUME_SECONDS", 0.001)
    desk, looks = Desk(), 0
    found = Pod(Cluster(), "p", "builds", desk.ticket(), "east", lambda _: None, True)  # type: ignore[arg-type]
    with pytest.raises(WorkerLost, match="has not come within"):
        await found.seat()

    class Starting(Start):
        @property
        def goes_on(self) -> bool:
            nonlocal looks
            looks += 1
            if looks == 3:
                desk.join(found.ticket.token)
            return super().goes_on

    found._start = Starting()
    found._start.look(still("p"), 0.0)
    async with asyncio.timeout(30):
        assert await found.seat() is found.ticket.seat.result()
    assert looks == 3


@pytest.mark.parametrize("known", [False, True])
async def test_a_pod_that_went_before_or_while_it_was_watched_is_lost(known: bool) -> None:
    class Gone(Cluster):
        async def watch(self, *_words: object) -> AsyncIterator[Change]:
            if known:
                yield Change("added", still("p"))
            yield Change("added", still("another of the build's"))
            yield Change("synced")
            if known:
                yield Change("deleted", still("p"))
            await asyncio.Event().wait()

    found = Pod(Gone(), "p", "builds", Desk().ticket(), "east", lambda _: None, labels={BUILD: "b1"})  # type: ignore[arg-type]
    watching = asyncio.create_task(found.watch())
    async with asyncio.timeout(30):
        with pytest.raises(WorkerLost, match="the Pod is gone from n1" if known else "the Pod is gone$"):
            await found.seat()
    watching.cancel()


@pytest.mark.usefixtures("quick")
async def test_while_the_cluster_is_away_a_pod_is_not_given_up() -> None:
    cluster = Cluster()
    cluster.refuses = True
    found = Pod(cluster, "p", "builds", Desk().ticket(), "east", lambda _: None, labels={BUILD: "b1"})  # type: ignore[arg-type]
    tasks = [asyncio.create_task(found.watch()), asyncio.create_task(found.explain())]
    await asyncio.sleep(0.4)  # several times as long as one would be stuck
    assert not found.over.done()
    cluster.refuses = False
    async with asyncio.timeout(30):
        with pytest.raises(WorkerLost):
            await found.seat()
    for task in tasks:
        task.cancel()


@pytest.mark.usefixtures("quick")
async def test_all_builds_prefer_other_nodes_after_one_lost_its_worker() -> None:
    cluster = Cluster()

    class East:
        volume = None

        async def choose(self, _project: str, cluster: str) -> str:
            return cluster

        async def client(self, _cluster: str) -> Any:
            return cluster

        async def site(self, _cluster: str) -> Site:
            return SITE

    launcher = KubernetesLauncher(East(), "mark")  # type: ignore[arg-type]
    reporter = Reporter("b", "", lambda _: None)
    for build_id in ("one", "two"):
        with pytest.raises(WorkerLost):
            async with (
                asyncio.timeout(30),
                launcher.started(replace(PLACE, build_id=build_id), Desk(), reporter) as worker,
            ):
                await worker.seat()
    first, second = (item["spec"] for item in cluster.made if item["kind"] == "Pod")
    assert "affinity" not in first
    (term,) = second["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [item["values"] for item in term["preference"]["matchFields"]] == [["n1"]]
    await launcher.close()


class Lost:
    """A launcher whose workers are lost, one for each of ``errors``; ``places`` is what it was asked for."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.places: list[Place] = []

    @asynccontextmanager
    async def started(self, place: Place, _desk: Desk, _reporter: Reporter) -> AsyncIterator[Any]:
        self.places.append(place)
        error = self.errors.pop(0)

        async def seat() -> None:
            raise error

        async def ended() -> None:
            await asyncio.Event().wait()

        yield SimpleNamespace(node=f"n{len(self.places)}", seat=seat, ended=ended)


async def build(launcher: Lost, directory: Path, granted: frozenset[str] = frozenset()) -> list[str]:
    """What it warns of until it raises."""
    (directory / "Dockerfile").write_text("FROM scratch\n")
    said: list[str] = []
    reporter = Reporter("b1", "", lambda event: said.append(str(event.get("text"))))
    request = SolveRequest("b1", directory, granted=granted)
    with pytest.raises(Failed) as failed:
        await PodBuilder(Any, Desk(), launcher).build(request, PLACE, Any, Any, Any, reporter, _room)  # type: ignore[arg-type]
    return [*said, str(failed.value)]


async def _room() -> None:
    raise AssertionError("there is room")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_REASON_SECONDS", 0.0)


async def test_an_image_that_one_node_cannot_pull_is_tried_on_another(tmp_path: Path) -> None:
    unpullable = [WorkerUnpullable(f"cannot be pulled on n{number}") for number in (1, 2, 3)]
    launcher = Lost(*unpullable)
    said = await build(launcher, tmp_path)
    assert said[0] == "cannot be pulled on n1 on n1; the build is started again elsewhere"
    assert said[-1].startswith("cannot be pulled on n2 (the nodes must reach this server's registry")
    assert [place.avoid for place in launcher.places] == [frozenset(), {"n1"}]
    mixed = Lost(unpullable[0], WorkerLost("gone"), unpullable[1])
    assert (await build(mixed, tmp_path))[-1].startswith("cannot be pulled on n2")
    assert not PLACE.here.is_set()


async def test_a_last_worker_that_is_refused_a_user_namespace_ends_the_build(tmp_path: Path) -> None:
    lost = [WorkerLost("gone")] * 3
    refused = WorkerRefused("no user namespace")
    said = await build(Lost(*lost, refused), tmp_path, frozenset({IN_PLACE}))
    assert said[-1] == "4 workers were lost; the last: no user namespace"
    assert "--allow" in (await build(Lost(*lost, refused), tmp_path))[-1]
    in_place = Lost(refused, *lost)
    assert (await build(in_place, tmp_path, frozenset({IN_PLACE})))[-1].endswith("the last: gone")
    assert [place.in_place for place in in_place.places] == [False, True, True, True]


async def test_why_a_worker_went_away_may_come_after_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    async def goes() -> str:
        raise WorkerLost("it hung up")

    async def says() -> None:
        await asyncio.sleep(0.05)
        raise Exhausted("more than its limit of disk")

    async def silent() -> None:
        await asyncio.Event().wait()

    with pytest.raises(WorkerLost, match="hung up"):
        await builder.unless(goes(), silent())
    monkeypatch.setattr(builder, "_REASON_SECONDS", 30.0)
    with pytest.raises(Exhausted, match="limit of disk"):
        await builder.unless(goes(), says())
