"""Any file at all: a project or a ``ComposeError``, nothing else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slipway.compose import Project, load
from slipway.compose.services import _KEYS, _OTHER
from slipway.errors import Invalid

WORDS = st.sampled_from(
    [
        "web",
        "80:80",
        "data:/data",
        "1s",
        "512m",
        "${A:-b}",
        "$",
        "no",
        "CMD",
        "",
        "-1",
        "²",
        "0x1f",
        "~",
        "a=b",
        "1.5",
    ]
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2**40), st.floats(allow_nan=True), WORDS, st.text(max_size=8)
)
KEYS = st.sampled_from(
    [*_KEYS, *_OTHER, "test", "interval", "retries", "target", "published", "type", "source", "context", "replicas",
     "resources", "limits", "cpus", "memory", "path", "required", "condition", "order", "update", "privileged", "x-a"]
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4),
    max_leaves=12,
)
SERVICES = st.dictionaries(
    st.sampled_from(["web", "db", "a.b", "-"]), st.dictionaries(KEYS, TREES, max_size=5), max_size=3
)
TOP = st.fixed_dictionaries({"services": SERVICES}, optional={"volumes": TREES, "name": TREES, "x-a": TREES})

# The first draw builds tables of all characters; how long that takes says nothing about the input.
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(data: bytes, *, over: bytes | None = None) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "compose.yaml").write_bytes(data)
        files = ["compose.yaml"]
        if over is not None:
            (directory / "over.yaml").write_bytes(over)
            files.append("over.yaml")
        try:
            project = load(directory, files, variables={"A": "1"}, name="app")
        except Invalid:
            return
        assert Project.from_json(json.loads(json.dumps(project.to_json(), allow_nan=False))) == project


@QUICK
@given(TOP)
def test_trees(tree: Any) -> None:
    check(yaml.safe_dump(tree).encode())


@QUICK
@given(TOP, TOP)
def test_trees_laid_over_each_other(base: Any, over: Any) -> None:
    check(yaml.safe_dump(base).encode(), over=yaml.safe_dump(over).encode())


@QUICK
@given(
    st.binary(max_size=200) | st.text("services: {}[]&*!<|>-?'\"#\n\t${}%@`,", max_size=120).map(str.encode)
)
@example(b"services: {a: {image: a, scale: \xc2\xb2}}")
@example(b"&a : *a")
@example(b"!!binary x")
@example(b"services: {a: {image: a, command: 'a \\0'}}")
def test_bytes(data: bytes) -> None:
    check(data)
