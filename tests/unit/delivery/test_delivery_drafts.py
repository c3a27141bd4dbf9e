"""Manifests of what is not delivered: whose images they name."""

from __future__ import annotations

from typing import Any

import pytest
from delivery_bench import Bench, service

from slipway.access import SYSTEM
from slipway.compose import Project, Service
from slipway.delivery import AppRef, Stepwise, Wanted
from slipway.errors import Invalid, Unsupported
from slipway.testing.memory_engine import MemoryEngine

DIGEST = "sha256:" + "0" * 64


def images_of(app: AppRef, wanted: Wanted) -> list[dict[str, Any]]:
    return [{"app": str(app), "number": wanted.release.number, "images": wanted.release.images}]


async def rendered(bench: Bench, *services: Service, **images: str) -> Any:
    bench.engine = Stepwise(MemoryEngine(bench.world), images_of)
    model = Project("shop", {item.name: item for item in services})
    (found,) = await bench.views.render("demo", model, images, SYSTEM)
    return found


async def test_an_image_is_the_named_one_the_files_or_the_present_releases(bench: Bench) -> None:
    found = await rendered(
        bench, Service("db", "postgres"), service("web"), web=f"registry:5000/a/b@{DIGEST}"
    )
    assert (found["app"], found["number"]) == ("demo/shop", 1)
    assert found["images"]["web"] == {"reference": "registry:5000/a/b", "digest": DIGEST}
    assert found["images"]["db"]["reference"] == "postgres"
    await bench.deliver(service("web"))
    found = await rendered(bench, service("web"))
    assert found["number"] == 2
    assert found["images"]["web"]["reference"] == "demo/shop-web:1"
    assert bench.builder.orders == ["web"]
    assert await bench.statuses() == {1: "active"}, "nothing was recorded"


@pytest.mark.parametrize(
    ("given", "name"),
    [("redis", "docker.io/library/redis"), ("a/b:1", "docker.io/a/b:1"), ("x.example/a:2", "x.example/a:2")],
)
async def test_an_image_of_elsewhere_has_its_full_name(bench: Bench, given: str, name: str) -> None:
    found = await rendered(bench, Service("db", "missing"), service("web"), web=given)
    assert found["images"]["web"] == {"reference": name, "digest": ""}
    assert found["images"]["db"] == {"reference": "docker.io/library/missing", "digest": ""}


async def test_what_has_no_image_is_said(bench: Bench) -> None:
    with pytest.raises(Invalid, match="'web' has no image yet"):
        await rendered(bench, service("web"))
    with pytest.raises(Invalid, match="no service 'wbe'"):
        await rendered(bench, service("web"), wbe="a")
    bench.engine = Stepwise(MemoryEngine(bench.world))
    with pytest.raises(Unsupported):
        await bench.views.render("demo", Project("shop", {"db": Service("db", "a")}), {}, SYSTEM)
