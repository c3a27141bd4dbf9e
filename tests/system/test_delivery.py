"""Whole deliveries through the command line: what a newcomer sees, and what must hold when things go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.platform import Running, write_app

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(600)]
HOST = "web.small.demo.localhost"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running.make(tmp_path_factory.mktemp("platform"))
    running.seed_base()
    running.up()
    yield running
    running.down()
    assert running.traces() == set()


@pytest.fixture
def source(platform: Running, tmp_path: Path) -> Path:
    """An app that is delivered and answers ``version 1``."""
    directory = write_app(tmp_path / "app", "1")
    platform.command("deliver", str(directory))
    assert platform.get_when_ready(HOST) == "version 1\n"
    return directory


def test_a_delivery_answers_and_a_second_one_finds_nothing_to_do(platform: Running, source: Path) -> None:
    again = platform.command("deliver", str(source))
    assert b"nothing changed" in again.stdout
    listed = platform.json("app", "ls")
    assert [(item["name"], item["state"]) for item in listed] == [("small", "serving")]
    events = platform.command("--output", "json", "deliver", str(source)).stdout.splitlines()
    assert json.loads(events[-1])["result"]["unchanged"] is True


def test_a_change_takes_over_and_a_rollback_goes_back(platform: Running, source: Path) -> None:
    write_app(source, "2")
    platform.command("deliver", str(source))
    assert platform.get(HOST) == "version 2\n"
    platform.command("app", "rollback", "small")
    assert platform.get(HOST) == "version 1\n"
    statuses = {item["number"]: item["status"] for item in platform.json("app", "releases", "small")}
    assert sorted(statuses.values()).count("active") == 1


def test_a_capability_is_an_administrators_to_grant(platform: Running, source: Path, tmp_path: Path) -> None:
    file = source / "compose.yaml"
    before = file.read_text()
    file.write_text(f"{before}    cap_add: [SYS_PTRACE, CHOWN]\n")
    refused = platform.command("deliver", str(source), ok=False)
    assert refused.returncode != 0
    assert b"is not granted to the project's apps: SYS_PTRACE" in refused.stderr
    assert f"compose.yaml:{len(before.splitlines()) + 1}".encode() in refused.stderr

    platform.add_member("dev", "correct horse", "developer")
    with platform.acting_as("dev", "correct horse", tmp_path):
        wish = platform.command("project", "app-policy", "demo", "--allow", "SYS_PTRACE", ok=False)
        assert b"may not change what a project's apps may have" in wish.stderr
    platform.command("project", "app-policy", "demo", "--allow", "SYS_PTRACE")
    platform.command("deliver", str(source))
    granted = platform.json("app", "show", "small")["release"]
    shown = platform.command("app", "exec", "small", "web", "--", "grep", "CapBnd", "/proc/1/status")
    assert int(shown.stdout.split()[1], 16) >> 19 & 1

    platform.command("project", "app-policy", "demo", "--deny", "cap_sys_ptrace")
    file.write_text(before)
    platform.command("deliver", str(source))
    back = platform.command("app", "rollback", "small", "--to", str(granted), ok=False)
    assert b"is not granted" in back.stderr


def test_no_request_fails_while_releases_change(platform: Running, source: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        ["wrk", "-t1", "-c8", "-d8", "-H", f"Host: {HOST}", f"http://127.0.0.1:{platform.apps_port}/"],
        stdout=subprocess.PIPE,
        text=True,
    ) as load:
        time.sleep(0.5)
        write_app(source, "loaded")
        platform.command("deliver", str(source))
        platform.command("app", "rollback", "small")
        report = load.communicate(timeout=60)[0]
    assert "Non-2xx" not in report
    assert "Socket errors" not in report
    assert int(report.split(" requests in")[0].split()[-1]) > 100


def test_scaling_adds_and_removes_instances(platform: Running, source: Path) -> None:
    platform.command("app", "scale", "small", "web=3")
    shown = platform.json("app", "show", "small")
    assert len([item for item in shown["instances"] if item["state"] == "running"]) == 3
    platform.command("app", "scale", "small", "web=1")
    assert len(platform.json("app", "show", "small")["instances"]) == 1
    assert platform.get(HOST) == "version 1\n"


def test_containers_serve_while_the_server_is_down(platform: Running, source: Path) -> None:
    before = platform.json("app", "show", "small")["instances"][0]["id"]
    platform.command("down")
    assert platform.get(HOST) == "version 1\n"
    platform.up()
    assert platform.json("app", "show", "small")["instances"][0]["id"] == before


def test_a_failing_step_shows_its_last_lines_and_changes_nothing(platform: Running, source: Path) -> None:
    (source / "Dockerfile").write_text("FROM debian:bookworm\nRUN echo precious words; exit 7\n")
    done = platform.command("deliver", str(source), ok=False)
    assert done.returncode == 1
    error = done.stderr.decode()
    assert "Dockerfile:2" in error
    assert "exit code 7" in error
    assert "precious words" in error.partition("exit code 7")[2]
    assert platform.get(HOST) == "version 1\n"


def test_a_release_that_never_gets_ready_leaves_the_old_one_serving(platform: Running, source: Path) -> None:
    (source / "app.pl").write_text('print "I cannot\\n"; exit 3;\n')
    done = platform.command("deliver", str(source), ok=False)
    assert done.returncode == 1
    assert "I cannot" in done.stderr.decode()
    assert platform.get(HOST) == "version 1\n"
    assert len(platform.json("app", "show", "small")["instances"]) == 1


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "compose.yaml",
            "services:\n  web:\n    biuld: .\n",
            ("compose.yaml:3", "biuld", "did you mean 'build'", "^"),
        ),
        ("compose.yaml", "services: [\n", ("compose.yaml:", "not YAML")),
        ("compose.yaml", "services:\n  web:\n    image: a\n    privileged: true\n", ("not supported yet",)),
        (
            "Dockerfile",
            "FROM debian:bookworm\nRNU true\n",
            ("Dockerfile:2:1", "RNU", "did you mean RUN", "^"),
        ),
        ("Dockerfile", "FROM nothing:here\n", ("Dockerfile:1", "not in this registry")),
        ("Dockerfile", "FROM debian:bookworm\nCOPY missing /\n", ("Dockerfile:2", "missing")),
    ],
)
def test_mistakes_are_shown_with_their_place(
    platform: Running, source: Path, name: str, text: str, words: tuple[str, ...]
) -> None:
    (source / name).write_text(text)
    done = platform.command("deliver", str(source), ok=False)
    assert done.returncode == 1
    shown = done.stderr.decode()
    assert "Traceback" not in shown
    for word in words:
        assert word in shown


def test_the_image_is_pulled_by_members_only(platform: Running, source: Path, tmp_path: Path) -> None:
    for name in ("gus", "eve"):
        process = platform.start_command("user", "create", name, "--password-stdin")
        process.communicate(b"correct horse\n")
    platform.command("project", "create", "elsewhere")
    platform.command("project", "add", "demo", "gus", "--role", "guest")
    platform.command("project", "add", "elsewhere", "eve", "--role", "guest")
    images = [item for item in platform.json("image", "ls") if item["repository"] == "demo/small-web"]
    image = f"docker://127.0.0.1:{platform.api_port}/demo/small-web:{images[-1]['tag']}"

    def inspect(user: str) -> subprocess.CompletedProcess[str]:
        words = ["skopeo", "inspect", "--tls-verify=false", "--creds", f"{user}:correct horse", image]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert json.loads(inspect("gus").stdout)["Digest"] == images[-1]["digest"]
    refused = inspect("eve")
    assert refused.returncode != 0
    assert "unauthorized" in refused.stderr


def test_a_run_sees_no_secret_and_no_other_build(platform: Running, source: Path) -> None:
    probe = (
        "FROM debian:bookworm\n"
        "RUN ls /var/lib/slipway /run/slipway 2>&1; cat /proc/1/environ 2>&1; env; "
        f"find / -xdev -name 'registry-token*' -o -xdev -name state.db; ls {platform.data} 2>&1; exit 9\n"
    )
    (source / "Dockerfile").write_text(probe)
    done = platform.command("deliver", str(source), ok=False)
    shown = done.stdout.decode() + done.stderr.decode()
    assert "exit code 9" in shown
    assert "| SLIPWAY" not in shown
    assert "| /" not in shown.replace("| /bin/sh", "")
    assert shown.count("No such file or directory") >= 3
