"""The two forms of an installation say the same; Helm itself renders the chart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.errors import Conflict, Invalid
from slipway.install import VALUES, documents, read_values, write_chart

HELM = Path(sys.executable).parent / "helm"
GIVEN = (
    "image=r.example.org/slipway:1",
    "registry.replicas=3",
    "registry.nodePort=30070",
    "host=r.example.org",
)


def rendered(chart: Path, *words: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [str(HELM), "template", "mine", str(chart), *words], capture_output=True, text=True, check=True
    )
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def _sorted(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In one order, without the label that tells two installations of the chart apart."""
    text = json.dumps(objects)
    found = json.loads(text.replace('"app.kubernetes.io/instance": "mine"', '"-": "-"'))
    for labels in _labels(found):
        labels.pop("-", None)
    return sorted(found, key=lambda item: (item["kind"], item["metadata"]["name"]))


def _labels(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for item in value for found in _labels(item)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for item in value.values() for found in _labels(item))]


@pytest.mark.parametrize("given", [(), GIVEN])
def test_the_chart_and_the_manifests_are_the_same(tmp_path: Path, given: tuple[str, ...]) -> None:
    write_chart(tmp_path / "chart")
    values = read_values("", given)
    wanted = [
        item.object
        for item in documents(values.__getitem__, namespace="default")
        if item.is_wanted(values.__getitem__)
    ]
    words = [word for flag in given for word in ("--set", flag)]
    found = rendered(tmp_path / "chart", *words, "--kube-version", "1.30")
    assert _sorted(found) == _sorted(wanted)
    assert any(item["kind"] == "Ingress" for item in found) == bool(given)


def test_the_chart_fits_the_cluster_and_two_of_it_fit_a_namespace(tmp_path: Path) -> None:
    write_chart(tmp_path / "chart")
    found = {item["kind"]: item for item in rendered(tmp_path / "chart", "--kube-version", "1.20.2")}
    assert found["PodDisruptionBudget"]["apiVersion"] == "policy/v1beta1"
    selector = found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert selector["app.kubernetes.io/instance"] == "mine"
    assert selector == found["Service"]["spec"]["selector"]
    subprocess.run([str(HELM), "lint", "--strict", str(tmp_path / "chart")], capture_output=True, check=True)


def test_a_chart_is_written_again_but_over_nothing_else(tmp_path: Path) -> None:
    assert write_chart(tmp_path / "chart") == write_chart(tmp_path / "chart")
    (tmp_path / "chart" / "templates" / "mine.yaml").write_text("a: b\n")
    with pytest.raises(Conflict, match=r"mine\.yaml"):
        write_chart(tmp_path / "chart")


def test_every_value_of_the_table_is_in_the_chart_s_values(tmp_path: Path) -> None:
    write_chart(tmp_path)
    text = (tmp_path / "values.yaml").read_text()
    assert read_values(text, ()) == {value.name: value.default for value in VALUES}
    assert all(value.help in text for value in VALUES)


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("registry: {replica: 1}", (), "no value 'registry.replica'"),
        ("", ("registry.replicas=many",), "not a number"),
        ("", ("registry.replicas=-1",), "not a number"),
        ("", ("image",), "not NAME=VALUE"),
        ("[1]", (), "must be a mapping"),
        ("a: [", (), "not YAML"),
    ],
)
def test_what_is_no_value_is_refused(text: str, flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        read_values(text, flags)
