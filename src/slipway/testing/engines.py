"""The suite that every ``slipway.delivery.InstanceEngine`` passes.

A test module derives from ``EngineSuite`` and gives the fixture ``bench``; pytest collects the tests from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import pytest

from slipway.base.clock import now
from slipway.compose import HealthTest, Port, Project, Service, VolumeMount
from slipway.delivery.engine import AppRef, Instance
from slipway.delivery.instance_engine import InstanceEngine
from slipway.delivery.releases import Release, release_digest
from slipway.errors import Conflict, Failed, SlipwayError
from slipway.testing.memory_engine import LAST_WORDS, Behaviour

APP = AppRef("demo", "shop")
PORT = 8000
PATIENCE = 60.0


class Bench(Protocol):
    """An engine with images to run, and a look at what cannot be seen through it."""

    engine: InstanceEngine

    def service(self, name: str, behaviour: Behaviour) -> Service:
        """A service that behaves so; ``serve`` listens on ``PORT``."""
        ...

    def images(self, model: Project) -> Mapping[str, Mapping[str, str]]:
        """An image for each service."""
        ...

    async def answering(self, app: AppRef, service: str) -> set[str]:
        """Ids of the instances that answer requests to the service."""
        ...

    def volumes(self, app: AppRef) -> set[str]: ...

    def free_port(self) -> int: ...

    async def reopen(self) -> None:
        """As after a kill of the server: ``engine`` is a new one over what is left."""
        ...


def make_release(bench: Bench, *services: Service, app: AppRef = APP, number: int = 1) -> Release:
    names = {mount.source for service in services for mount in service.volumes if mount.source}
    model = Project(app.name, {service.name: service for service in services}, tuple(sorted(names)))
    images = bench.images(model)
    return Release(number, model, images, release_digest(model, images), "pending", now(), "ada")


async def start(bench: Bench, *services: Service, app: AppRef = APP, number: int = 1) -> list[Instance]:
    """All of ``services`` started and ready."""
    release = make_release(bench, *services, app=app, number=number)
    await bench.engine.prepare(app, release)
    found = []
    for service in services:
        instance = await bench.engine.start(app, release, service, 1)
        found.append(await bench.engine.ready(app, instance, service, PATIENCE))
    return found


def web(bench: Bench, name: str = "web", published: int = 0) -> Service:
    return replace(bench.service(name, "serve"), ports=(Port(PORT, published),))


class EngineSuite:
    """What the contract says, one sentence a test."""

    async def test_instances_tell_what_runs(self, bench: Bench) -> None:
        service = web(bench)
        (instance,) = await start(bench, service, number=7)
        (seen,) = await bench.engine.instances(APP)
        assert (seen.id, seen.service, seen.release, seen.replica) == (instance.id, "web", 7, 1)
        assert seen.running
        assert seen.config == make_release(bench, service).config_of(service)
        assert seen.address
        assert await bench.engine.instances(AppRef("demo", "other")) == []

    async def test_ending_is_idempotent(self, bench: Bench) -> None:
        (instance,) = await start(bench, bench.service("worker", "idle"))
        for _ in range(2):
            await bench.engine.drain(APP, instance, 1)
            await bench.engine.stop(APP, instance)
            (seen,) = await bench.engine.instances(APP)
            assert not seen.running
        for _ in range(2):
            await bench.engine.remove(APP, instance)
            assert await bench.engine.instances(APP) == []
        await bench.engine.stop(APP, instance)

    async def test_a_stopped_instance_is_revived_as_itself(self, bench: Bench) -> None:
        service = web(bench)
        (instance,) = await start(bench, service)
        await bench.engine.stop(APP, instance)
        for _ in range(2):
            await bench.engine.revive(APP, instance)
        again = await bench.engine.ready(APP, instance, service, PATIENCE)
        assert again.running
        assert (again.id, again.address) == (instance.id, instance.address)

    async def test_a_failure_shows_the_last_words(self, bench: Bench) -> None:
        for service in (
            bench.service("worker", "fail"),
            replace(bench.service("web", "fail"), ports=(Port(PORT),)),
        ):
            with pytest.raises(Failed) as raised:
                await start(bench, service)
            assert "exit code 3" in raised.value.message
            assert LAST_WORDS in raised.value.message
            assert raised.value.context["log"] == [LAST_WORDS]
        for left in await bench.engine.instances(APP):
            lines = [line async for line in bench.engine.logs(APP, left, follow=False, tail=5)]
            assert [(line.text, line.service) for line in lines] == [(LAST_WORDS, left.service)]

    async def test_what_never_gets_ready_fails_in_time(self, bench: Bench) -> None:
        service = replace(bench.service("web", "deaf"), ports=(Port(PORT),))
        release = make_release(bench, service)
        await bench.engine.prepare(APP, release)
        instance = await bench.engine.start(APP, release, service, 1)
        with pytest.raises(Failed, match=r"within 0\.5 s"):
            await bench.engine.ready(APP, instance, service, 0.5)

    async def test_a_health_check_decides(self, bench: Bench) -> None:
        service = replace(web(bench), healthcheck=HealthTest(("CMD", "/bin/true"), interval=1))
        (instance,) = await start(bench, service)
        assert instance.health == "healthy"

    async def test_a_job_completes(self, bench: Bench) -> None:
        (job,) = await start(bench, bench.service("job", "job"))
        await bench.engine.completed(APP, job, PATIENCE)
        (seen,) = await bench.engine.instances(APP)
        assert (seen.running, seen.exit_code) == (False, 0)

    async def test_a_failed_start_leaves_nothing(self, bench: Bench) -> None:
        release = make_release(bench, replace(bench.service("web", "idle"), command=(), entrypoint=()))
        await bench.engine.prepare(APP, release)
        with pytest.raises(SlipwayError):
            await bench.engine.start(APP, release, release.model.services["web"], 1)
        assert await bench.engine.instances(APP) == []

    async def test_exactly_the_published_instances_answer(self, bench: Bench) -> None:
        service = web(bench)
        (one,) = await start(bench, service)
        (two,) = await start(bench, service, number=2)
        for chosen in ([one], [one, two], [two], [two]):
            await bench.engine.publish(APP, {"web": (service, chosen)})
            assert await bench.answering(APP, "web") == {item.id for item in chosen}
        await bench.engine.publish(APP, {})
        assert await bench.answering(APP, "web") == set()

    async def test_publishing_one_app_leaves_the_others(self, bench: Bench) -> None:
        other = AppRef("demo", "shop-two")
        service = web(bench)
        (mine,) = await start(bench, service)
        (theirs,) = await start(bench, service, app=other)
        await bench.engine.publish(APP, {"web": (service, [mine])})
        await bench.engine.publish(other, {"web": (service, [theirs])})
        await bench.reopen()
        assert [item.id for item in await bench.engine.instances(APP)] == [mine.id]
        await bench.engine.publish(APP, {"web": (service, [mine])})
        assert await bench.answering(APP, "web") == {mine.id}
        assert await bench.answering(other, "web") == {theirs.id}

    async def test_a_taken_address_is_refused_and_spoils_nothing(self, bench: Bench) -> None:
        port = bench.free_port()
        other = AppRef("demo", "second")
        service, rival = web(bench, published=port), web(bench, published=port)
        (mine,) = await start(bench, service)
        await bench.engine.publish(APP, {"web": (service, [mine])})
        release = make_release(bench, rival, app=other)
        with pytest.raises(Conflict, match=str(port)):
            await bench.engine.prepare(other, release)
        with pytest.raises(Conflict, match=str(port)):
            await bench.engine.publish(other, {"web": (rival, [])})
        plain = web(bench)
        (theirs,) = await start(bench, plain, app=other)
        await bench.engine.publish(other, {"web": (plain, [theirs])})
        assert await bench.answering(other, "web") == {theirs.id}
        assert await bench.answering(APP, "web") == {mine.id}

    async def test_volumes_go_only_when_asked_and_only_their_own(self, bench: Bench) -> None:
        """Names that begin alike are other apps."""
        apps = [APP, AppRef("demo", "shop-two"), AppRef("demo-shop", "two")]
        mount = (VolumeMount("/data", "volume", "data"),)
        for app in apps:
            service = replace(bench.service("store", "idle"), volumes=mount)
            (instance,) = await start(bench, service, app=app)
            await bench.engine.stop(app, instance)
            await bench.engine.remove(app, instance)
        for _ in range(2):
            await bench.engine.remove_app(APP, volumes=False)
        assert [bench.volumes(app) for app in apps] == [{"data"}] * 3
        for _ in range(2):
            await bench.engine.remove_app(APP, volumes=True)
        assert [bench.volumes(app) for app in apps] == [set(), {"data"}, {"data"}]

    async def test_only_services_with_ports_have_urls(self, bench: Bench) -> None:
        assert bench.engine.urls(APP, bench.service("worker", "idle")) == []
        (url,) = bench.engine.urls(APP, web(bench))
        assert "web.shop.demo.localhost" in url
