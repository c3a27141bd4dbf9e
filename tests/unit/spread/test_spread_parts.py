"""What is spread and what is not, and which objects on a cluster are ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.compose import ComposeError, load
from slipway.delivery import Placement
from slipway.engines.kubernetes.observed import is_ours
from slipway.engines.spread.parts import is_whole, keeps_data
from slipway.engines.spread.placing import choose
from slipway.errors import Conflict

NONE = Placement()


@pytest.mark.parametrize(
    ("service", "whole", "data"),
    [
        ("{image: web}", False, False),
        ("{image: web, volumes: [/cache], tmpfs: /tmp}", False, False),
        ("{image: web, volumes: ['data:/data']}", True, True),
        ("{image: web, volumes: ['data:/data:ro']}", True, True),
        ("{image: web, x-slipway: {spread: false}}", True, False),
        ("{image: web, x-slipway: {spread: true}}", False, False),
    ],
)
def test_an_app_is_whole_for_its_data_or_because_it_says_so(
    tmp_path: Path, service: str, whole: bool, data: bool
) -> None:
    (tmp_path / "compose.yaml").write_text(f"services: {{web: {service}}}\nvolumes: {{data: }}\n")
    model = load(tmp_path, name="shop")
    assert (is_whole(model), keeps_data(model)) == (whole, data)
    choice = choose(model, {"east": 1, "west": 2}, (), NONE)
    assert (choice.home, dict(choice.weights)) == (
        ("west", {"west": 1}) if whole else ("west", {"east": 1, "west": 2})
    )
    assert choose(model, {"east": 1, "west": 2}, ("west",), NONE).home == "east"
    with pytest.raises(Conflict):
        choose(model, {"east": 0}, (), NONE)


def test_spread_is_a_switch(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: web, x-slipway: {spread: some}}}\n")
    with pytest.raises(ComposeError, match="spread"):
        load(tmp_path, name="shop")


def test_a_placement_is_read_as_it_was_written() -> None:
    found = Placement("east", {"east": 1, "west": 2}, frozenset({"east"}), {"west": "2026"}, frozenset({"n"}))
    assert Placement.from_json(found.to_json()) == found
    assert Placement.from_json({}) == NONE


@pytest.mark.parametrize(
    ("namespace", "prefix", "ours"),
    [
        ("slipway-demo", "slipway-", True),
        ("slipway--demo-shop", "slipway-", True),
        ("east-demo", "slipway-", False),
        ("east-demo", "east-", True),
        ("slipway-demo-shop", "slipway-", False),
    ],
)
def test_what_is_in_other_namespaces_is_another_platforms(namespace: str, prefix: str, ours: bool) -> None:
    labels = {"slipway/project": "demo", "slipway/app": "shop"}
    assert is_ours({"metadata": {"namespace": namespace, "labels": labels}}, prefix) is ours
