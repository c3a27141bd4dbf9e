"""What the embedded engine tells the balancer, and when."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from slipway.compose import Port, Service
from slipway.delivery.engine import AppRef, Instance
from slipway.engines.embedded import EmbeddedEngine
from slipway.engines.embedded.routing import routes
from slipway.errors import Conflict, Failed
from slipway.network import Balancer, Networks, Route
from slipway.registry import Registry
from slipway.runtime import Container, Containers
from slipway.snapshots import SnapshotStore

APP, OTHER = AppRef("demo", "shop"), AppRef("demo", "other")
WEB = Service("web", "web", ports=(Port(80),))


class _Balancer:
    """Does what it is told, but for ``trouble``, which it meets half-way."""

    def __init__(self) -> None:
        self.is_running = True
        self.routes: Sequence[Route] = ()
        self.trouble: BaseException | None = None

    def running(self) -> bool:
        return self.is_running

    async def apply(self, wanted: Sequence[Route]) -> None:
        if not self.is_running and (
            taken := [route for route in wanted if route.tcp_listen == "192.0.2.7:80"]
        ):
            raise Conflict(f"the address {taken[0].tcp_listen} is not ours")
        self.routes, self.is_running = wanted, True
        trouble, self.trouble = self.trouble, None
        if trouble is not None:
            self.routes = ()
            raise trouble


class _Containers:
    def list(self) -> list[Container]:
        return []


def instance(number: int) -> Instance:
    return Instance(f"i{number}", "web", number, 1, "", True, address=f"10.0.0.{number}")


@pytest.fixture
def balancer() -> _Balancer:
    return _Balancer()


@pytest.fixture
def engine(tmp_path: Path, balancer: _Balancer) -> EmbeddedEngine:
    nothing = object()
    return EmbeddedEngine(
        cast(Containers, _Containers()), cast(Networks, nothing), cast(Balancer, balancer),
        cast(SnapshotStore, nothing), cast(Registry, nothing), tmp_path / "volumes", "localhost", 80,
    )  # fmt: skip


@pytest.mark.parametrize("trouble", [Failed("haproxy refused it"), asyncio.CancelledError()])
async def test_what_was_given_up_half_way_is_put_back(
    engine: EmbeddedEngine, balancer: _Balancer, trouble: BaseException
) -> None:
    await engine.publish(APP, {"web": (WEB, [instance(1)])})
    balancer.trouble = trouble
    with pytest.raises(type(trouble)):
        await engine.publish(APP, {"web": (WEB, [instance(2)])})
    await engine.publish(APP, {"web": (WEB, [instance(1)])})
    assert [server.id for route in balancer.routes for server in route.servers] == ["i1"]


async def test_an_address_that_the_machine_lost_takes_no_other_app_with_it(
    engine: EmbeddedEngine, balancer: _Balancer
) -> None:
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        taken = rival.getsockname()[1]
        lost = Service("web", "web", ports=(Port(80), Port(81, taken), Port(82, 80, host_ip="192.0.2.7")))
        engine._routes = {OTHER: routes(OTHER, {"web": (lost, [instance(3)])}, "localhost")}
        balancer.is_running = False
        await engine.publish(APP, {"web": (WEB, [instance(1)])})
        assert {route.host: route.tcp_listen for route in balancer.routes} == {
            "web.shop.demo.localhost": "",
            "web.other.demo.localhost": "",
            "81.web.other.demo.localhost": "",
            "82.web.other.demo.localhost": "",
        }
        with pytest.raises(Conflict, match="cannot be published"):
            await engine.publish(OTHER, {"web": (lost, [instance(3)])})


def test_a_port_published_on_many_addresses_is_heard_on_each() -> None:
    ports = tuple(Port(80, 80, host_ip=f"127.0.0.{number}") for number in range(1, 6))
    found = routes(APP, {"web": (Service("web", "web", ports=ports), [instance(1)])}, "localhost")
    assert {route.tcp_listen for route in found} == {f"127.0.0.{number}:80" for number in range(1, 6)}
