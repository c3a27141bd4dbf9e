"""What a build can be given as its source: by the real solver, and through the command line."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.errors import Invalid
from slipway.oci import Reference
from slipway.testing.builds import BuildBench
from slipway.testing.busybox import BUSYBOX
from slipway.testing.platform import Running

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    found = tmp_path / "other"
    found.mkdir()
    (found / "file").write_text("other")
    (found / "hidden").write_text("ignored")
    (found / ".dockerignore").write_text("hidden\n")
    return found


async def test_a_named_directory_is_copied_from_and_mounted(bench: BuildBench, other: Path) -> None:
    text = (
        "FROM busybox\nCOPY --from=Other . /c\nRUN --mount=from=other,target=/m ls /m > /list\n"
        "COPY --from=other /file /again"
    )
    made = await bench.build(text, contexts={"other": other})
    assert made.text("c/file") == "other"
    assert made.root.lstat("c/hidden") is None
    assert made.text("list") == "file\n"
    assert (await bench.build(text, contexts={"other": other})).ran == []
    (other / "file").write_text("new")
    assert (await bench.build(text, contexts={"other": other})).text("again") == "new"


async def test_a_named_context_comes_before_stages_and_images(bench: BuildBench, other: Path) -> None:
    stage = "FROM busybox AS other\nRUN false\nFROM busybox\nCOPY --from=other file /file"
    assert (await bench.build(stage, contexts={"other": other})).text("file") == "other"
    image = Reference.parse("busybox")
    made = await bench.build("FROM base\nRUN echo ran > /ran", contexts={"base": image})
    assert made.text("ran") == "ran\n"
    with pytest.raises(Invalid, match="FROM needs an image"):
        await bench.build("FROM other", contexts={"other": other})


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running.make(tmp_path_factory.mktemp("p"))
    found.seed_base()
    found.up()
    yield found
    found.down()


def build(platform: Running, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    with platform.start_command("build", *words) as process:
        out, err = process.communicate(stdin, timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_on_standard_input(platform: Running, mode: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, text in (("Dockerfile", b"FROM scratch\nCOPY file /f\n"), ("file", mode.encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    done = build(platform, "-", "-t", f"tar{len(mode)}", stdin=data.getvalue())
    assert done.returncode == 0, done.stderr
    assert b"demo/tar" in done.stdout


def test_a_dockerfile_on_standard_input(platform: Running, other: Path) -> None:
    done = build(platform, "-", "-t", "alone", stdin=b"FROM scratch\nLABEL a=b\n")
    assert done.returncode == 0, done.stderr
    done = build(platform, str(other), "-f", "-", "-t", "with", stdin=b"FROM scratch\nCOPY file /\n")
    assert done.returncode == 0, done.stderr
    done = build(platform, "-", stdin=b"FROM scratch\n")
    assert (done.returncode, b"name the image" in done.stderr) == (1, True)


def test_named_contexts_by_the_command_line(platform: Running, other: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "Dockerfile").write_text("FROM base\nCOPY --from=tree file /f\n")
    words = ["--build-context", f"tree={other}", "--build-context", "base=docker-image://debian:bookworm"]
    assert build(platform, str(source), *words).returncode == 0
    done = build(platform, str(source), "--build-context", "tree")
    assert (done.returncode, b"NAME=DIRECTORY" in done.stderr) == (1, True)


def test_a_hostile_tar_on_standard_input(platform: Running) -> None:
    for name in ("../../../../etc/evil", "/etc/evil"):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for entry_name, text in (("Dockerfile", b"FROM scratch\nCOPY . /\n"), (name, b"evil")):
                entry = tarfile.TarInfo(entry_name)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))
        build(platform, "-", "-t", "evil", stdin=data.getvalue())
        assert not Path("/etc/evil").exists()
    done = build(platform, "-", "-t", "torn", stdin=b"\x1f\x8bnonsense")
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
