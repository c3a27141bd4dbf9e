"""What a Compose file means, and what is said about a wrong one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from slipway.compose import ComposeError, DependsOn, HealthTest, Port, Project, Service, VolumeMount, load
from slipway.errors import NotFound

Loader = Callable[..., Project]


@pytest.fixture
def app(tmp_path: Path) -> Loader:
    """Loads a text as the directory's Compose file."""

    def write(
        text: str, *, files: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None
    ) -> Project:
        (tmp_path / "compose.yaml").write_text(text)
        for name, content in (files or {}).items():
            (tmp_path / name).write_text(content)
        return load(tmp_path, variables=variables, name="shop")

    return write


def one(app: Loader, text: str, **more: Mapping[str, str]) -> Service:
    """The service of a file that has one, of which ``text`` is the body."""
    return app("services:\n  web:\n    image: web\n" + text, **more).services["web"]


def test_everything_a_service_can_say(app: Loader) -> None:
    project = app(
        """
name: ignored-for-the-name-given
x-team: {mail: a@b}
services:
  web:
    build: {context: ./web, args: [A=1], target: run, labels: {a: b}}
    command: python -m "my app"
    entrypoint: [/init, --]
    environment: {DEBUG: true, PORT: 80}
    ports: [8000, "127.0.0.1:9000:90", {target: 70, published: "7000", protocol: tcp}]
    volumes: [data:/data, {type: tmpfs, target: /tmp}, cache:/c:ro]
    depends_on: {db: {condition: service_healthy}, extra: {condition: service_started, required: false}}
    healthcheck: {test: curl localhost, interval: 1m30s, retries: 5, start_period: 500ms}
    restart: on-failure:3
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 1g, pids: 50}}}
    stop_grace_period: 1m
    extra_hosts: ["db:10.0.0.1"]
    x-slipway: {update: {order: stop-first}, deploy_timeout: 90s}
  db: {image: "postgres:16"}
volumes: {data: , cache: {driver: local}}
"""
    )
    web = project.services["web"]
    assert list(project.services) == ["db", "web"]
    assert project.name == "shop"
    assert project.extensions == {"x-team": {"mail": "a@b"}}
    assert web.build is not None
    assert (web.build.context, web.build.args, web.build.target) == ("./web", {"A": "1"}, "run")
    assert web.command == ("python", "-m", "my app")
    assert web.environment == {"DEBUG": "true", "PORT": "80"}
    assert web.ports == (Port(8000), Port(90, 9000, "tcp", "127.0.0.1"), Port(70, 7000))
    assert web.volumes == (
        VolumeMount("/data", "volume", "data"),
        VolumeMount("/tmp", "tmpfs"),
        VolumeMount("/c", "volume", "cache", True),
    )
    assert web.depends_on == {"db": DependsOn("service_healthy")}
    assert web.healthcheck == HealthTest(("CMD-SHELL", "curl localhost"), 90, retries=5, start_period=0.5)
    assert (web.replicas, web.cpus, web.memory, web.pids) == (2, 0.5, 1 << 30, 50)
    assert (web.restart, web.stop_grace_period, web.extra_hosts) == ("on-failure:3", 60, {"db": "10.0.0.1"})
    assert web.x_slipway == {"order": "stop-first", "deploy_timeout": 90.0}
    assert not web.start_first


def test_json_holds_everything_and_only_what_was_said(app: Loader) -> None:
    project = app(
        "services: {web: {image: w, command: [], ports: [80], x-slipway: {x-note: [1, {a: null}]}}}"
    )
    stored = json.loads(json.dumps(project.to_json()))
    assert Project.from_json(stored) == project
    assert stored["services"]["web"].keys() == {"name", "image", "command", "ports", "x_slipway"}
    stored["services"]["web"]["from_a_later_version"] = 1
    assert Project.from_json(stored) == project


def test_writers_of_a_volume_take_turns_unless_told(app: Loader) -> None:
    text = "    volumes: [data:/data]\n"
    tail = "volumes: {data: }\n"
    assert one(app, "").start_first
    assert not one(app, text + tail).start_first
    assert one(app, "    volumes: [data:/data:ro]\n" + tail).start_first
    assert one(app, text + "    x-slipway: {order: start-first}\n" + tail).start_first
    assert one(app, text + "    deploy: {update_config: {order: start-first}}\n" + tail).start_first


def test_merge_keys_and_anchors(app: Loader) -> None:
    project = app(
        """
x-common: &common {restart: always, environment: &env {A: "1", B: "2"}}
services:
  one: {<<: *common, image: one}
  two: {<<: [{image: two, restart: "no"}, *common], environment: {<<: *env, B: "3"}}
"""
    )
    assert project.services["one"].restart == "always"
    assert project.services["two"].restart == "no"
    assert project.services["two"].environment == {"A": "1", "B": "3"}


def test_variables_come_from_the_caller_then_from_the_env_file(app: Loader) -> None:
    text = "    command: ['${A}', '${B:-two}', '$$C']\n    environment: [A, B, D=4]\n"
    service = one(app, text, files={".env": "A=file\nB=b\n"}, variables={"A": "caller"})
    assert service.command == ("caller", "b", "$C")
    assert service.environment == {"A": "caller", "B": "b", "D": "4"}


def test_a_variable_that_is_nowhere_is_not_set(app: Loader) -> None:
    assert one(app, "    environment: {A: , B: ''}\n").environment == {"B": ""}


def test_env_files_are_laid_over_each_other_below_environment(app: Loader) -> None:
    text = (
        "    env_file: [a.env, {path: b.env}, {path: none.env, required: false}]\n    environment: {C: own}\n"
    )
    files = {"a.env": "A=a\nB=a\nC=a\n", "b.env": "export B='b $A'\nC=b\n"}
    assert one(app, text, files=files).environment == {"A": "a", "B": "b $A", "C": "own"}


def test_profiles_choose_services(tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {a: {image: a}, b: {image: b, profiles: [debug]}}")
    assert list(load(tmp_path).services) == ["a"]
    assert list(load(tmp_path, profiles=["debug"]).services) == ["a", "b"]


def test_the_directory_names_the_app(tmp_path: Path) -> None:
    directory = tmp_path / "My_Shop 2"
    directory.mkdir()
    (directory / "compose.yaml").write_text("services: {a: {image: a}}")
    assert load(directory).name == "my-shop-2"


def test_no_compose_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no Compose file"):
        load(tmp_path)
    for name in ("other.yaml", "../x.yaml", "/etc/hostname"):
        with pytest.raises(NotFound, match="cannot be read"):
            load(tmp_path, [name])


def test_a_symlink_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("A=1\n")
    inside = tmp_path / "app"
    inside.mkdir()
    (inside / "a.env").symlink_to(tmp_path / "secret")
    (inside / "compose.yaml").write_text("services: {a: {image: a, env_file: a.env}}")
    with pytest.raises(ComposeError, match="cannot be read"):
        load(inside)


WRONG = {
    "": "the file is empty",
    "services: {}": "there are no services",
    "services: {a: {image: a}}\nservcies: {}": r"2:1: unknown key 'servcies'.*did you mean 'services'",
    "services:\n  a:\n    imag: x": r"3:5: unknown key 'imag'",
    "services:\n  a:\n    image: x\n    image: y": r"4:5: the key 'image' is given twice",
    "services: {a: {image: a, privileged: true}}": "services.a.privileged is not supported yet",
    "services: {a: {image: a, ipc: host}}": "not supported yet",
    "services: {a: {image: a, devices: [/dev/kvm]}}": "a.devices is not supported yet.*given no devices.*app render",
    "services: {a: {image: a, gpus: all}}": "a.gpus is not supported yet.*given no devices",
    "services: {a: {image: a, deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}}}": (
        "reservations.devices is not supported yet.*given no devices"
    ),
    "services: {a: {build: {context: ., ssh: [x]}}}": "services.a.build.ssh is not supported yet",
    "services: {a: {image: a, networks: [n]}}": "uses 'n', which is not declared",
    "services: {a: {image: a, secrets: [n]}}": "uses 'n', which is not declared",
    "services: {a: {image: a}}\nnetworks: {n: {ipam: {}}}": "networks.n.ipam is not supported yet",
    "services: {a: {image: a}}\nconfigs: {c: {}}": "needs one of content, environment, file",
    "services: {a: {image: a}}\nsecrets: {c: {content: a}}": "unknown key 'content'",
    "services: {a: {image: a}}\nsecrets: {c: {environment: NONE}}": "the variable 'NONE' is not set",
    "services: {a: {image: a}}\nconfigs: {c: {file: none}}": "cannot be read",
    "services: {a: {image: a, configs: [{target: /x}]}}": "needs a source",
    "services: {a: {}}": "neither `image` nor `build`",
    "services: {A b: {image: a}}": "not a service name",
    "services: [a]": "services must be a mapping",
    "services: {a: {image: [x]}}": "must be a single value",
    "services: {a: {image: a, ports: [0]}}": "not between 1 and 65535",
    "services: {a: {image: a, ports: ['53:53/udp']}}": "UDP ports is not supported",
    "services: {a: {image: a, ports: [{published: 80}]}}": "needs a target",
    "services: {a: {image: a, scale: -1}}": "replicas are not possible",
    "services: {a: {image: a, scale: ²}}": "must be a whole number",
    "services: {a: {image: a, scale: --5}}": "must be a whole number",
    "services: {a: {image: a, cpus: nan}}": "not a number of processors",
    "services: {a: {image: a, mem_limit: lots}}": "not a size",
    "services: {a: {image: a, read_only: maybe}}": "must be true or false",
    "services: {a: {image: a, restart: sometimes}}": "not a restart policy",
    "services: {a: {image: a, stop_grace_period: 1y}}": "not a duration",
    "services: {a: {image: a, cap_add: [NET_ADMINN]}}": "unknown capability",
    "services: {a: {image: a, healthcheck: {interval: 1s}}}": "needs a test",
    "services: {a: {image: a, healthcheck: {test: [curl]}}}": "a test starts with",
    "services: {a: {image: a, healthcheck: {test: x, retries: 0}}}": "must be 1 or more",
    "services: {a: {image: a, depends_on: [b]}}": "depends on 'b', which is no service",
    "services: {a: {image: a, depends_on: [b]}, b: {image: b, profiles: [p]}}": "a profile that is not chosen",
    "services: {a: {image: a, depends_on: {b: {condition: ready}}}, b: {image: b}}": "one of service_started",
    "services: {a: {image: a, depends_on: [b]}, b: {image: b, depends_on: [a]}}": "a circle: a → b → a",
    "services: {a: {image: a, volumes: ['data:/x']}}": "'data', which is not declared",
    "services: {a: {image: a, volumes: ['data:x']}}\nvolumes: {data: }": "must be an absolute path",
    "services: {a: {image: a, volumes: ['data:/x:rx']}}\nvolumes: {data: }": "unknown volume option",
    "services: {a: {image: a}}\nvolumes: {data: {name: other}}": "volumes.data.name is not supported yet",
    "services: {a: {image: a, command: '${X'}}": "not closed",
    "services: {a: {image: a, command: '${X:?set it}'}}": "the variable X is required: set it",
    "services: {a: {image: a, command: 'a $ b'}}": "'\\$' stands alone",
    "services: {a: {image: a, env_file: none}}": "does not exist",
    "services: {a: {image: a, env_file: {required: true}}}": "needs a path",
    "services: {a: {image: a, x-slipway: {ordr: x}}}": "did you mean 'order'",
    "services: {a: {image: a, x-slipway: {order: x}}}": "one of start-first, stop-first",
    "services: {a: {image: a, x-slipway: {deploy_timeout: 2h}}}": "at most an hour",
    "services: {a: {image: a, x-slipway: 5}}": "must be a mapping",
    "services: {a: !secret {image: a}}": "unknown tag '!secret'",
    "a: b\n c: d": "not YAML",
    "a: &a [*a]": "deeper than",
    "? [a]\n: b": "a key must be a text",
    "<<: 5": "`<<` takes a mapping",
    "a: b\n---\nc: d": "not YAML",
    "a: \x01": "not YAML",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_what_is_wrong_is_said_with_its_place(app: Loader, text: str, message: str) -> None:
    with pytest.raises(ComposeError, match=r"^compose.yaml:\d+:\d+: ") as raised:
        app(text)
    assert raised.match(rf"(?s){message}")


ESCAPES = (
    "services: {a: {image: a, volumes: ['x/../../etc:/host']}}\nvolumes: {x/../../etc: }",
    "services: {a: {image: a}}\nvolumes: {x/../../etc: }",
    "services: {a: {image: a, volumes: ['/etc:/host']}}",
    "services: {a: {image: a, volumes: [{type: bind, source: /etc, target: /host}]}}",
    "services: {a: {image: a, volumes: [{type: volume, source: ../etc, target: /host}]}}",
    'services: {a: {image: a, ports: [{target: 80, published: 81, host_ip: "1.1.1.1:1\\n  lua-load x"}]}}',
    'services: {a: {image: a, ports: [{target: 80, published: "81 ssl", host_ip: 1.1.1.1}]}}',
    "services: {a: {image: a, env_file: ../secret}}",
    'services: {a: {image: a, env_file: "a\\0b"}}',
    'services: {a: {image: a, hostname: "a\\nb"}}',
    "services: {../a: {image: a}}",
)


@pytest.mark.parametrize("text", ESCAPES)
def test_nothing_reaches_beyond_the_app(app: Loader, text: str) -> None:
    """Names become paths, arguments and lines of configuration files on the host."""
    with pytest.raises(ComposeError):
        app(text)


def test_the_caret_stands_below_the_mistake(app: Loader) -> None:
    with pytest.raises(ComposeError) as raised:
        app("services:\n  web:\n    image: web\n    ports: [80, 99999]\n")
    assert raised.value.message.splitlines() == [
        "compose.yaml:4:17: services.web.ports[1]: the port '99999' is not between 1 and 65535",
        "      ports: [80, 99999]",
        "                  ^",
    ]
    assert (raised.value.context["line"], raised.value.context["column"]) == (4, 17)


def test_a_small_file_cannot_stand_for_a_huge_one(app: Loader) -> None:
    levels = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(ComposeError, match="more than 100000 values"):
        app("x0: &x0 [a]\n" + levels + "services: {a: {image: a}}\n")
    with pytest.raises(ComposeError, match="1048576 bytes"):
        app("#" * 2_000_000)
    with pytest.raises(ComposeError):
        app("[" * 50_000)


def test_only_regular_files_are_opened(app: Loader, tmp_path: Path) -> None:
    """An uploaded archive may bring devices, which would be the host's."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ComposeError, match="no regular file"):
        app("services: {a: {image: a, env_file: pipe}}")
    with pytest.raises(NotFound, match="no regular file"):
        load(tmp_path, ["pipe"])


def test_a_directory_called_as_the_env_file_is_no_matter(app: Loader, tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert app("services: {a: {image: a}}").name == "shop"
