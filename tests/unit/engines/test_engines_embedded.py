"""From Compose and an image to a container, and from what is published to routes: the pure parts."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.base.clock import now
from slipway.compose import DependsOn, HealthTest, Port, Project, Service, VolumeMount
from slipway.delivery.engine import AppRef, Instance
from slipway.delivery.hosts import hosts
from slipway.delivery.releases import Release
from slipway.engines.embedded.routing import KeptRoutes, Routes, check_listens, living, routes
from slipway.engines.embedded.specs import container_spec, volume_path, volume_paths
from slipway.errors import Conflict, Invalid
from slipway.network import Route, Server
from slipway.oci import ImageConfig, Platform
from slipway.runtime import ContainerSpec, HealthCheck, Mount

APP = AppRef("demo", "shop")
WEB = Service("web", "web", ports=(Port(8000),))
IMAGE: dict[str, Any] = {
    "Entrypoint": ["/init"], "Cmd": ["serve"], "Env": ["A=image", "PATH=/bin"], "User": "app", "WorkingDir": "/srv",
    "StopSignal": "SIGINT", "Healthcheck": {"Test": ["CMD-SHELL", "check"], "Interval": 5_000_000_000},
}  # fmt: skip


def spec(service: Service, image: dict[str, Any] | None = None) -> ContainerSpec:
    model = Project("shop", {service.name: service})
    release = Release(3, model, {service.name: {"reference": "r", "digest": "d"}}, "", "active", now(), "ada")
    config = ImageConfig(Platform("linux", "amd64"), (), IMAGE if image is None else image)
    return container_spec(APP, release, service, 2, config, "", Path("/volumes"))


@pytest.mark.parametrize(
    ("entrypoint", "command", "argv"),
    [
        (None, None, ("/init", "serve")),
        (None, ("other",), ("/init", "other")),
        (("/mine",), None, ("/mine",)),
        (("/mine",), ("x",), ("/mine", "x")),
        (None, (), ("/init",)),
        ((), ("x",), ("x",)),
    ],
)
def test_entrypoint_and_command(
    entrypoint: tuple[str, ...] | None, command: tuple[str, ...] | None, argv: tuple[str, ...]
) -> None:
    assert spec(replace(WEB, entrypoint=entrypoint, command=command)).argv == argv


def test_nothing_to_run_is_said() -> None:
    with pytest.raises(Invalid, match="no command"):
        spec(WEB, {})


def test_the_image_is_the_default_for_everything() -> None:
    found = spec(WEB)
    assert (found.user, found.cwd, found.stop_signal) == ("app", "/srv", "SIGINT")
    assert found.health == HealthCheck(("/bin/sh", "-c", "check"), 5)
    said = spec(replace(WEB, user="1", working_dir="/x", stop_signal="SIGHUP", environment={"A": "compose"}))
    assert (said.user, said.cwd, said.stop_signal) == ("1", "/x", "SIGHUP")
    assert dict(said.env) == {"A": "compose", "PATH": "/bin"}
    assert spec(replace(WEB, healthcheck=HealthTest(("CMD", "a", "b")))).health == HealthCheck(("a", "b"))
    assert spec(replace(WEB, healthcheck=HealthTest(("NONE",)))).health is None


def test_a_job_is_not_checked_as_the_service_is_whose_image_it_has() -> None:
    job, web = (
        Service("job", "web"),
        replace(WEB, depends_on={"job": DependsOn("service_completed_successfully")}),
    )
    model = Project("shop", {"job": job, "web": web})
    images = {name: {"reference": "r", "digest": "d"} for name in model.services}
    release = Release(1, model, images, "", "active", now(), "ada")
    config = ImageConfig(Platform("linux", "amd64"), (), IMAGE)
    made = {
        name: container_spec(APP, release, service, 1, config, "", Path("/volumes"))
        for name, service in model.services.items()
    }
    assert made["job"].health is None
    assert made["web"].health is not None


def test_names_and_labels() -> None:
    found = spec(replace(WEB, labels={"slipway.project": "other", "team": "a"}))
    assert found.networks[0].network == "demo_shop"
    assert found.networks[0].aliases == ("web", "web-2")
    wanted = {"slipway.project": "demo", "slipway.release": "3", "slipway.replica": "2", "team": "a"}
    assert wanted.items() <= found.labels.items()
    assert found.labels["com.docker.compose.service"] == "web"


def test_volumes_of_apps_never_meet(tmp_path: Path) -> None:
    """``a`` with ``b-c`` and ``a-b`` with ``c`` are not the same app."""
    names = [
        (AppRef("a", "b-c"), "d"),
        (AppRef("a-b", "c"), "d"),
        (AppRef("a", "b"), "c-d"),
        (AppRef("a", "b"), "c_d"),
    ]
    paths = [volume_path(tmp_path, *name) for name in names]
    assert len(set(paths)) == len(names)
    for path in paths:
        path.mkdir()
    assert volume_paths(tmp_path, AppRef("a", "b")) == sorted(paths[2:])
    for name in ("../x", "", "..", "a/b"):
        with pytest.raises(Invalid):
            volume_path(tmp_path, APP, name)


def test_mounts() -> None:
    volumes = (
        VolumeMount("/d", "volume", "data"),
        VolumeMount("/t", "tmpfs"),
        VolumeMount("/anonymous", "volume"),
    )
    assert spec(replace(WEB, volumes=volumes, tmpfs=("/run",))).mounts == (
        Mount("/d", "/volumes/demo_shop_data", "volume"),
        Mount("/t", kind="tmpfs"),
        Mount("/run", kind="tmpfs"),
    )
    assert Mount("/anonymous", kind="tmpfs") in spec(replace(WEB, volumes=volumes, read_only=True)).mounts
    with pytest.raises(Invalid):  # as a release of an older version may hold it
        spec(replace(WEB, volumes=(VolumeMount("/etc", "bind", "/etc"),)))


def instance(number: int) -> Instance:
    return Instance(f"i{number}", "web", 1, number, "", True, address=f"10.0.0.{number}")


def test_each_port_has_a_name() -> None:
    service = replace(WEB, ports=(Port(80), Port(90, 9000), Port(90, 9001, "tcp", "::1")))
    assert [host for host, _ in hosts(APP, service, "localhost")] == [
        "web.shop.demo.localhost", "90.web.shop.demo.localhost", "90.web.shop.demo.localhost",
    ]  # fmt: skip
    found = routes(APP, {"web": (service, [instance(1), instance(2)])}, "localhost")
    assert [(route.host, route.tcp_listen, [item.port for item in route.servers]) for route in found] == [
        ("web.shop.demo.localhost", "", [80, 80]),
        ("90.web.shop.demo.localhost", "127.0.0.1:9000", [90, 90]),
        ("9001-90.web.shop.demo.localhost", "[::1]:9001", [90, 90]),
    ]
    assert routes(APP, {"db": (Service("db", "db"), [instance(1)])}, "localhost") == ()


def test_an_address_is_published_once() -> None:
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        address = f"127.0.0.1:{rival.getsockname()[1]}"
        mine = Route("a", (), address)
        with pytest.raises(Conflict, match="in use"):
            check_listens(APP, [mine], {}, ours=True)
        with pytest.raises(Conflict, match="in use"):
            check_listens(APP, [mine], {APP: [mine]}, ours=False)
        check_listens(APP, [mine], {APP: [mine]}, ours=True)
        with pytest.raises(Conflict, match="published by demo/other"):
            check_listens(APP, [mine], {AppRef("demo", "other"): [mine]}, ours=True)
    with pytest.raises(Conflict, match="published by demo/shop"):
        check_listens(APP, [mine, replace(mine, host="b")], {}, ours=True)


def test_routes_are_kept_and_read_again(tmp_path: Path) -> None:
    kept = KeptRoutes(tmp_path / "new" / "routes.json")
    assert kept.load() == {}
    known: Routes = {
        APP: (Route("a", (Server("i1", "10.0.0.1", 80), Server("i2", "10.0.0.2", 80)), "127.0.0.1:9"),)
    }
    kept.save(known)
    assert kept.load() == known
    for text in ("", "[{}]", "[1]", "{", "5"):
        (tmp_path / "new" / "routes.json").write_text(text)
        assert kept.load() == {}


def test_servers_that_run_no_more_are_passed_over() -> None:
    servers = tuple(Server(f"i{number}", f"10.0.0.{number}", 80) for number in (1, 2, 3))
    found = living({APP: (Route("a", servers),)}, {"i1": "10.0.0.1", "i2": "10.0.0.9"})
    assert found == {APP: (Route("a", servers[:1]),)}
