"""Networks, configs, secrets, and what an engine refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.compose import ComposeError, FileMount, Network, NetworkUse, Project, Refusal, load
from slipway.engines.embedded.limits import refusals

TEXT = """\
services:
  web:
    image: web
    expose: [9000, "9001-9002/tcp", "53/udp"]
    shm_size: 64m
    networks: {back: {aliases: [api]}, default: }
    configs: [site, {source: site, target: /etc/site, mode: "0440"}]
    secrets: [key, {source: key, target: other}]
    deploy: {resources: {reservations: {cpus: "0.5", memory: 64m}}}
networks: {back: {internal: true}}
configs: {site: {content: "hello ${NAME}"}}
secrets: {key: {file: key.txt}}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(TEXT)
    (tmp_path / "key.txt").write_text("s3cret\n")
    return tmp_path


def test_networks_configs_and_secrets_are_read_and_survive_as_json(directory: Path) -> None:
    model = load(directory, variables={"NAME": "you"}, name="shop")
    web = model.services["web"]
    assert web.networks == {"back": NetworkUse(("api",)), "default": NetworkUse()}
    assert web.configs == (FileMount("site", "/site"), FileMount("site", "/etc/site", 0o440))
    assert web.secrets == (FileMount("key", "/run/secrets/key"), FileMount("key", "/run/secrets/other"))
    assert (web.expose, web.shm_size) == ((9000, 9001, 9002), 64 << 20)
    assert (web.cpus_reserved, web.memory_reserved) == (0.5, 64 << 20)
    assert model.networks == {"back": Network(internal=True)}
    assert (model.configs, model.secrets) == ({"site": "hello you"}, {"key": "s3cret\n"})
    assert Project.from_json(model.to_json()) == model


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        ("", "compose.yaml:10:1: networks is not supported yet"),
        ("networks: {back: {internal: true}}\n", "10:1: configs is not supported yet"),
    ],
)
def test_what_an_engine_refuses_is_shown_where_it_is_written(
    directory: Path, drop: str, message: str
) -> None:
    text = TEXT.replace(drop, "") if drop else TEXT
    text = text.replace("back: {aliases: [api]}, ", "") if drop else text
    (directory / "compose.yaml").write_text(text)
    with pytest.raises(ComposeError, match="not supported yet") as raised:
        load(directory, variables={"NAME": "you"}, refuse=refusals)
    assert message.removeprefix("compose.yaml:") in raised.value.message.splitlines()[0]


def test_a_refusal_stands_at_the_nearest_key_that_is_written(directory: Path) -> None:
    def refuse(model: Project) -> list[Refusal]:
        return [
            Refusal(
                ("services", "web", "pids_limit"),
                "cannot be",
                other=("services", "web", "deploy", "resources"),
            )
        ]

    with pytest.raises(ComposeError, match=r":9:14: services.web.pids_limit cannot be"):
        load(directory, variables={"NAME": "you"}, refuse=refuse)
    (directory / "key.txt").write_bytes(b"\xff")
    with pytest.raises(ComposeError, match="not UTF-8"):
        load(directory, variables={"NAME": "you"})
