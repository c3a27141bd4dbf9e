"""Builds by a real Docker daemon: remote over mutual TLS, by this node's socket, and in a privileged container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.busybox import BUSYBOX
from slipway.testing.daemons import Daemon, add_builders, docker_daemon
from slipway.testing.platform import Running

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
KINDS = ("remote", "socket", "dind")
DOCKERFILE = """\
FROM scratch AS tools
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "echo made here > /made; /bin/busybox ln -s made /link"]
ARG COLOUR
COPY . /app
RUN ["/bin/busybox", "sh", "-c", "echo $COLOUR > /colour"]
ENV A=1
USER 7
CMD ["/bin/busybox", "true"]
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[Daemon]:
    with docker_daemon() as found:
        yield found


@pytest.fixture(scope="module")
def platform(docker: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running.make(tmp_path_factory.mktemp("builders") / "platform")
    found.directory.mkdir()
    found.up()
    add_builders(found, docker)
    yield found
    found.down()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    found = tmp_path / "source"
    found.mkdir()
    shutil.copy(BUSYBOX, found / "busybox")
    (found / "text").write_text("text\n")
    (found / "ignored").write_text("no\n")
    (found / ".dockerignore").write_text("ignored\nDockerfile\n")
    (found / "Dockerfile").write_text(DOCKERFILE)
    return found


def _left(docker: Daemon) -> list[str]:
    """Containers, volumes, and images that have a name."""
    asked = (["ps", "-aq"], ["volume", "ls", "-q"], ["images", "--format", "{{.Repository}}"])
    found = [docker.docker.run(*words) for words in asked]
    return sorted(set(" ".join(found).split()) - {"debian", "inner", "<none>"})


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_is_in_the_registry_and_nothing_stays_at_the_daemon(
    platform: Running, docker: Daemon, source: Path, tmp_path: Path, kind: str
) -> None:
    name = f"by-{kind}"
    done = platform.command("build", str(source), "-t", name, "--builder", kind, "--build-arg", "COLOUR=red")
    assert b"[by-%s 2/9]" % kind.encode() in done.stdout or b"2/" in done.stdout
    found = platform.json("image", "inspect", f"demo/{name}")
    assert found["config"]["User"] == "7"
    assert "A=1" in found["config"]["Env"]
    assert found["signed"] is True
    root = tmp_path / "root"
    platform.command("image", "export", f"demo/{name}", "-o", str(root), "--format", "local")
    assert (root / "made").read_text() == "made here\n"
    assert os.readlink(root / "link") == "made"
    assert (root / "colour").read_text() == "red\n"
    assert sorted(os.listdir(root / "app")) == [".dockerignore", "busybox", "text"]
    assert _left(docker) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_step_is_named_with_its_output(
    platform: Running, docker: Daemon, source: Path, kind: str
) -> None:
    (source / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /busybox\nRUN ["/busybox", "sh", "-c", "echo the reason; exit 3"]\n'
    )
    done = platform.command("build", str(source), "-t", "x", "--builder", kind, ok=False)
    assert done.returncode == 1
    assert b"the reason" in done.stderr
    assert b"returned a non-zero code: 3" in done.stderr
    assert b"Traceback" not in done.stderr
    assert _left(docker) == []


@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_ends_it_there(platform: Running, docker: Daemon, source: Path, kind: str) -> None:
    (source / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /busybox\nRUN ["/busybox", "sh", "-c", "echo waiting; /busybox sleep 987"]\n'
    )
    with platform.start_command("build", str(source), "-t", "x", "--builder", kind) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"| waiting" in line:
                break
        running = [item["id"] for item in platform.json("builds", "ls") if item["state"] == "running"]
        platform.command("builds", "cancel", running[0])
        assert process.wait(60) != 0
    for _ in range(600):
        if not _left(docker) and not _sleeping():
            return
        time.sleep(0.1)
    raise AssertionError(f"left: {_left(docker)} {_sleeping()}")


def _sleeping() -> str:
    return subprocess.run(["pgrep", "-f", "sleep 987"], capture_output=True, text=True, check=False).stdout


def test_what_only_our_own_worker_does_is_refused_by_name(platform: Running, source: Path) -> None:
    words = ["build", str(source), "-t", "x", "--builder", "socket", "--secret", "id=a,env=PATH"]
    done = platform.command(*words, ok=False)
    assert b"the builder 'socket' cannot do --secret" in done.stderr


def test_only_projects_that_were_named_may_use_it(platform: Running, docker: Daemon, source: Path) -> None:
    platform.command("project", "create", "other")
    platform.command(
        "builder",
        "add",
        "mine",
        "socket",
        "--address",
        f"unix://{docker.docker.socket}",
        "--project",
        "other",
    )
    done = platform.command("build", str(source), "-t", "x", "--builder", "mine", ok=False)
    assert b"the project 'demo' may not use the builder 'mine'" in done.stderr
    platform.command("build", str(source), "--project", "other", "-t", "x", "--builder", "mine")
    platform.command("builder", "rm", "mine")
    done = platform.command("build", str(source), "-t", "x", "--builder", "mine", ok=False)
    assert b"there is no builder 'mine'" in done.stderr
    names = [item["name"] for item in platform.json("builder", "ls")]
    assert names == ["dind", "remote", "socket"]


def test_a_daemon_that_is_not_there(platform: Running, source: Path, tmp_path: Path) -> None:
    platform.command("builder", "add", "gone", "socket", "--address", f"unix://{tmp_path}/none.sock")
    done = platform.command("build", str(source), "-t", "x", "--builder", "gone", ok=False)
    assert b"does not answer" in done.stderr
    platform.command("builder", "rm", "gone")
    done = platform.command("builder", "add", "x", "dind", "--image", "i", "--address", "tcp://h:1", ok=False)
    assert b"not an address for a dind builder" in done.stderr
    assert json.loads(json.dumps(platform.json("builder", "ls")))


def test_a_killed_server_removes_its_daemons_when_it_is_back(
    platform: Running, docker: Daemon, source: Path
) -> None:
    (source / "Dockerfile").write_text(
        'FROM scratch\nCOPY busybox /busybox\nRUN ["/busybox", "sh", "-c", "echo waiting; /busybox sleep 986"]\n'
    )
    with platform.start_command("build", str(source), "-t", "x", "--builder", "dind") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"| waiting" in line:
                break
        platform.kill()
        process.wait(60)
    assert docker.docker.run("ps", "-q").strip()
    platform.up()
    assert _left(docker) == []
