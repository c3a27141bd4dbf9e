"""Several files made one."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.compose import ComposeError, Port, Project, VolumeMount, load


def merged(directory: Path, *texts: str) -> Project:
    names = [f"{number}.yaml" for number in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        (directory / name).write_text(text)
    return load(directory, names, name="shop")


def test_mappings_merge_scalars_replace_lists_grow(tmp_path: Path) -> None:
    web = merged(
        tmp_path,
        """
services:
  web:
    image: one
    command: [a, b]
    environment: [A=1, B=1]
    labels: {a: "1"}
    ports: ["80", "127.0.0.1:81:81"]
    volumes: [data:/data, other:/other]
    tmpfs: [/run]
    healthcheck: {test: [CMD, a], interval: 5s}
    deploy: {replicas: 2, resources: {limits: {cpus: "1"}}}
  db: {image: db}
volumes: {data: , other: }
""",
        """
services:
  web:
    image: two
    command: [c]
    environment: {B: "2", C: "2"}
    labels: [b=2]
    ports: ["80", "82"]
    volumes: [fresh:/data]
    tmpfs: [/run, /tmp]
    healthcheck: {test: [CMD, b]}
    deploy: {resources: {limits: {memory: 1m}}}
    depends_on: [db]
volumes: {fresh: }
""",
    ).services["web"]
    assert (web.image, web.command) == ("two", ("c",))
    assert web.environment == {"A": "1", "B": "2", "C": "2"}
    assert web.labels == {"a": "1", "b": "2"}
    assert web.ports == (Port(80), Port(81, 81, "tcp", "127.0.0.1"), Port(82))
    assert web.volumes == (VolumeMount("/data", "volume", "fresh"), VolumeMount("/other", "volume", "other"))
    assert web.tmpfs == ("/run", "/tmp")
    assert web.healthcheck is not None
    assert (web.healthcheck.test, web.healthcheck.interval) == (("CMD", "b"), 5)
    assert (web.replicas, web.cpus, web.memory) == (2, 1.0, 1 << 20)


def test_short_and_long_forms_meet(tmp_path: Path) -> None:
    project = merged(
        tmp_path,
        "services: {web: {build: ./web, depends_on: [db]}, db: {image: db}}",
        "services: {web: {build: {target: run}, depends_on: {db: {condition: service_healthy}}}}",
    )
    web = project.services["web"]
    assert web.build is not None
    assert (web.build.context, web.build.target) == ("./web", "run")
    assert web.depends_on["db"].condition == "service_healthy"


def test_reset_and_override(tmp_path: Path) -> None:
    web = merged(
        tmp_path,
        "services: {web: {image: web, ports: [80], tmpfs: [/a], environment: {A: '1', B: '1'}}}",
        "services: {web: {ports: !reset [], tmpfs: !override [/b], environment: {A: !reset null}}}",
    ).services["web"]
    assert (web.ports, web.tmpfs, web.environment) == ((), ("/b",), {"B": "1"})


def test_null_leaves_what_was_there(tmp_path: Path) -> None:
    assert merged(tmp_path, "services: {a: {image: a}}", "services: {a: }").services["a"].image == "a"


def test_an_error_names_the_file_it_is_in(tmp_path: Path) -> None:
    with pytest.raises(ComposeError, match=r"^1.yaml:3:12: "):
        merged(tmp_path, "services: {a: {image: a}}", "services:\n  a:\n    scale: x\n")
    with pytest.raises(ComposeError, match=r"^0.yaml:2:1: .*given twice"):
        merged(tmp_path, "services: {a: {image: a}}\nservices: {}", "services: {a: {image: a}}")


def test_the_override_file_beside_it_counts(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: a}}")
    (tmp_path / "compose.override.yaml").write_text("services: {a: {image: b}}")
    assert load(tmp_path).services["a"].image == "b"
    assert load(tmp_path, ["compose.yaml"]).services["a"].image == "a"
