"""What the options of `slipway build` say and do, through the command line and a whole platform."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.busybox import BUSYBOX
from slipway.testing.platform import Running

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]
RANDOM = "cat /proc/sys/kernel/random/uuid"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running.make(tmp_path_factory.mktemp("p"))
    found.seed_base()
    found.up()
    yield found
    found.down()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    found = tmp_path / "source"
    found.mkdir()
    return found


def write(source: Path, text: str) -> str:
    (source / "Dockerfile").write_text(text)
    return str(source)


def exported(platform: Running, name: str, directory: Path) -> Path:
    platform.command("image", "export", f"demo/{name}", "-o", str(directory), "--format", "local")
    return directory


def test_checks_are_named_with_line_and_link_and_fail_the_command(platform: Running, source: Path) -> None:
    path = write(source, "FROM scratch AS one\nENV PASSWORD=x\nworkdir sub\n")
    done = platform.command("build", path, "--check", ok=False)
    assert done.returncode == 1
    text = done.stdout.decode() + done.stderr.decode()
    for rule, line in (
        ("SecretsUsedInArgOrEnv", 2), ("ConsistentInstructionCasing", 3), ("WorkdirRelativePath", 3),
    ):  # fmt: skip
        assert [row for row in text.splitlines() if rule in row and f"Dockerfile:{line}" in row], text
    assert "https://docs.docker.com/reference/build-checks/workdir-relative-path/" in text
    assert "3 findings" in text
    assert platform.command("build", write(source, "FROM scratch\nLABEL a=b\n"), "--check").returncode == 0
    assert not [item for item in platform.json("builds", "ls") if item["service"] == source.name]


def test_findings_are_warnings_unless_the_file_makes_them_errors(platform: Running, source: Path) -> None:
    text = "FROM scratch\nENV TOKEN=x\n"
    done = platform.command("build", write(source, text), "-t", "warned")
    assert b"SecretsUsedInArgOrEnv" in done.stdout + done.stderr
    done = platform.command("build", write(source, f"# check=error=true\n{text}"), "-t", "refused", ok=False)
    assert done.returncode == 1
    assert b"SecretsUsedInArgOrEnv" in done.stdout + done.stderr
    left_out = f"# check=skip=SecretsUsedInArgOrEnv;error=true\n{text}"
    platform.command("build", write(source, left_out), "-t", "skipped")


def test_explain_names_what_changed(platform: Running, source: Path) -> None:
    (source / "file").write_text("1")
    path = write(source, "FROM debian:bookworm\nCOPY file /file\nRUN true\n")
    platform.command("build", path, "-t", "explained")
    (source / "file").write_text("2")
    done = platform.command("build", path, "-t", "explained", "--explain")
    text = done.stdout.decode() + done.stderr.decode()
    assert "changed: file" in text
    assert "the image below changed" in text
    assert "changed" not in platform.command("build", path, "-t", "explained", "--explain").stdout.decode()


def test_labels_arguments_and_a_stage_alone(platform: Running, source: Path, tmp_path: Path) -> None:
    path = write(
        source,
        f"FROM debian:bookworm AS one\nRUN {RANDOM} > /one\nFROM debian:bookworm AS two\nARG WORD\n"
        f"RUN {RANDOM} > /two; echo $WORD > /word\nCOPY --from=one /one /one\nFROM two\nRUN false\n",
    )
    words = ["--target", "two", "--label", "who=we", "--label", "a=b=c", "--build-arg", "WORD=said"]
    platform.command("build", path, "-t", "chosen:1", *words)
    found = platform.json("image", "inspect", "demo/chosen:1")
    assert found["config"]["Labels"] == {"who": "we", "a": "b=c"}
    first = exported(platform, "chosen:1", tmp_path / "first")
    assert (first / "word").read_text() == "said\n"
    platform.command("build", path, "-t", "chosen:2", "--no-cache-filter", "two", *words)
    second = exported(platform, "chosen:2", tmp_path / "second")
    assert (second / "one").read_text() == (first / "one").read_text()
    assert (second / "two").read_text() != (first / "two").read_text()
    platform.command("build", path, "-t", "chosen:3", "--no-cache", *words)
    third = exported(platform, "chosen:3", tmp_path / "third")
    assert (third / "one").read_text() != (first / "one").read_text()


def test_arguments_that_steer_the_builder(platform: Running, source: Path, tmp_path: Path) -> None:
    path = write(
        source,
        "FROM debian:bookworm\nRUN cat /proc/sys/kernel/hostname > /name; grep -c wonder /etc/hosts > /hosts; true\n"
        "RUN --mount=type=cache,id=kept,target=/kept cp -a /kept /before; touch /kept/here; date > /kept/again\n",
    )
    platform.command("build", path, "-t", "steered:1", "--no-cache")
    words = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=wonder", "--build-arg", "BUILDKIT_CACHE_MOUNT_NS=own"]
    words += ["--build-arg", "BUILDKIT_MULTI_PLATFORM=1"]
    done = platform.command("--output", "json", "build", path, "-t", "steered:2", *words)
    result = json.loads(done.stdout.splitlines()[-1])["result"]
    assert len(result["platforms"]) == 1, "no index of one"
    root = exported(platform, "steered:2", tmp_path / "root")
    assert (root / "name").read_text() == "wonder\n"
    assert (root / "hosts").read_text() == "1\n"
    assert list((root / "before").iterdir()) == [], "another namespace's directory was used"
    done = platform.command("build", path, "--build-arg", "BUILDKIT_MULTI_PLATFORM=perhaps", ok=False)
    assert (done.returncode, b"neither" in done.stderr or b"yes or no" in done.stderr) == (1, True)
    done = platform.command("build", path, "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=a b", ok=False)
    assert (done.returncode, b"name of a host" in done.stderr) == (1, True)
