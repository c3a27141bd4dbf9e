"""Whatever an app is called, Kubernetes takes the names, and no two things share one."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from slipway.base.clock import now
from slipway.compose import FileMount, Network, NetworkUse, Port, Project, Service, VolumeMount
from slipway.delivery.engine import AppRef, Wanted
from slipway.delivery.releases import Release
from slipway.engines.kubernetes import Setting, manifests
from slipway.engines.kubernetes.names import (
    LONGEST,
    label_name,
    object_name,
    own_namespace_name,
    record_name,
)
from slipway.engines.kubernetes.objects import key_of

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
KEY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)

apps = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
services = st.from_regex(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
volumes = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", fullmatch=True)


@given(st.lists(st.text(max_size=80), min_size=1, max_size=3))
def test_any_text_becomes_a_name(parts: list[str]) -> None:
    name = object_name(*parts)
    assert LABEL.fullmatch(name)
    assert len(name) <= LONGEST


@given(st.text(max_size=100))
def test_any_text_becomes_a_label(text: str) -> None:
    assert KEY.fullmatch(f"network.slipway/{label_name(text)}")


@given(st.lists(st.tuples(apps, services), min_size=2, max_size=2, unique=True))
def test_different_services_have_different_names(pairs: list[tuple[str, str]]) -> None:
    assert object_name(*pairs[0]) != object_name(*pairs[1])


def test_dashes_do_not_confuse() -> None:
    assert object_name("shop", "web") == "shop-web"
    assert object_name("my-shop", "web") == "my-shop-web"
    assert len({object_name("a", "b-c"), object_name("a-b", "c"), object_name("a", "b", "c")}) == 3
    assert record_name(AppRef("demo", "shop")) == "app.shop"
    assert own_namespace_name("slipway-", AppRef("demo", "shop")) == "slipway--demo-shop"


@st.composite
def releases(draw: st.DrawFn) -> tuple[AppRef, Wanted]:
    names = draw(st.lists(services, min_size=1, max_size=3, unique=True))
    stores = draw(st.lists(volumes, max_size=2, unique=True))
    networks = draw(st.lists(volumes, max_size=2, unique=True))
    configs = draw(st.dictionaries(volumes, st.text(max_size=20), max_size=2))

    def service(name: str) -> Service:
        used = draw(st.sets(st.sampled_from(stores))) if stores else ()
        return Service(
            name, "image", ports=(Port(8000), Port(9000, 90)), command=("$(X)", "$$"),
            volumes=tuple(VolumeMount(f"/{item}", "volume", item) for item in used),
            networks={item: NetworkUse() for item in networks},
            configs=tuple(FileMount(item, f"/c/{item}") for item in configs),
            secrets=tuple(FileMount(item, f"/s/{item}", 0o400) for item in configs),
            tmpfs=("/tmp", "/run/a_b"),
        )  # fmt: skip

    model = Project(
        draw(apps), {name: service(name) for name in names}, tuple(stores), {},
        {item: Network() for item in networks}, configs, configs,
    )  # fmt: skip
    images = {name: {"reference": "demo/web:1", "digest": "sha256:" + "0" * 64} for name in names}
    release = Release(draw(st.integers(1, 9999)), model, images, "d", "active", now(), "ada")
    return AppRef(draw(apps), model.name), Wanted(release)


def valid(value: Any) -> None:
    """Every label, wherever it is."""
    if isinstance(value, dict):
        for key in ("labels", "matchLabels", "selector"):
            found = value.get(key, {})
            for name, text in found.items() if key != "selector" or "matchLabels" not in found else ():
                assert KEY.fullmatch(name), name
                assert VALUE.fullmatch(text), text
        for item in value.values():
            valid(item)
    elif isinstance(value, list):
        for item in value:
            valid(item)


@given(releases())
def test_every_manifest_has_valid_and_distinct_names_and_labels(made: tuple[AppRef, Wanted]) -> None:
    found = manifests(*made, Setting("registry:5000"))
    assert len({key_of(item) for item in found}) == len(found)
    for item in found:
        assert SUBDOMAIN.fullmatch(item["metadata"]["name"])
        assert LABEL.fullmatch(item["metadata"]["namespace"])
        valid(item)
        template = (
            item["spec"].get("template", {}) if item["kind"] in ("Deployment", "StatefulSet", "Job") else {}
        )
        names = [volume["name"] for volume in template.get("spec", {}).get("volumes", ())]
        assert len(set(names)) == len(names)
        assert all(LABEL.fullmatch(name) for name in names)
        for container in template.get("spec", {}).get("containers", ()):
            assert {mount["name"] for mount in container.get("volumeMounts", ())} == set(names)
            assert container["args"] == ["$$(X)", "$$$$"]
