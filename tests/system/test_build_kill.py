"""The server is killed at fifty random instants of builds: nothing is half done, and the next build is whole.

The builds have everything that could be half done: layers large and small, a cache mount, a bind mount, two stages at
once, a tar from an archive, documents about the image.
"""

from __future__ import annotations

import os
import random
import shutil
import tarfile
import time
from pathlib import Path

import pytest

from slipway.content import LocalStore
from slipway.testing.busybox import BUSYBOX
from slipway.testing.platform import Running, footprint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
    pytest.mark.timeout(1500),
]
KILLS = 50
DOCKERFILE = """\
FROM scratch AS tools
COPY busybox /bin/busybox
SHELL ["/bin/busybox", "sh", "-c"]
ENV PATH=/bin
RUN busybox --install -s /bin
FROM tools AS one
RUN --mount=type=cache,target=/kept for i in $(seq 50); do echo NUMBER > /kept/$i; done; cp -r /kept /one
FROM tools AS two
RUN --mount=target=/src dd if=/dev/zero of=/two bs=1M count=24 2>/dev/null; cat /src/number >> /two
FROM tools
ADD files.tar /files/
COPY --from=one /one /one
COPY --from=two /two /two
COPY . /src
RUN sleep 0.2; seq 20000 > /numbers
"""


def test_killed_at_any_instant_nothing_is_half_done(tmp_path: Path) -> None:
    rng = random.Random(50)
    platform = Running.make(tmp_path / "p")
    platform.directory.mkdir()
    platform.up()
    source = _source(tmp_path / "source")
    began = time.monotonic()
    _number(source, 0)
    platform.command("build", str(source), "-t", "web:0")
    whole = time.monotonic() - began
    for number in range(1, KILLS + 1):
        _number(source, number)
        build = platform.start_command("build", str(source), "-t", f"web:{number}")
        time.sleep(rng.uniform(0.05, whole * 1.1))
        platform.kill()
        build.communicate(timeout=60)
        platform.up()
        _in_order(platform)
        if number % 10 == 0:
            _is_whole(platform, source, number, tmp_path / f"root{number}")
    assert list(LocalStore(platform.data / "content").fsck()) == []
    platform.down()
    assert platform.traces() == set()


def _source(directory: Path) -> Path:
    directory.mkdir()
    shutil.copy(BUSYBOX, directory / "busybox")
    with tarfile.open(directory / "files.tar", "w") as archive:
        for number in range(300):
            (directory / "file").write_text(str(number))
            archive.add(directory / "file", f"d{number % 7}/{number}")
    return directory


def _number(source: Path, number: int) -> None:
    """Another build: every part of it but the tools has to run again."""
    (source / "number").write_text(str(number))
    (source / "Dockerfile").write_text(DOCKERFILE.replace("NUMBER", str(number)))


def _in_order(platform: Running) -> None:
    """What a start of the server must have put in order."""
    assert [item for item in platform.json("builds", "ls") if item["state"] in ("queued", "running")] == []
    content = platform.data / "content"
    assert [path for part in ("ingest", "leases") for path in (content / part).iterdir()] == []
    assert list((platform.data / "snapshots" / "active").iterdir()) == []
    assert list(platform.data.glob("cache-mounts/*/.new-*")) == []
    assert str(platform.data) not in Path("/proc/self/mountinfo").read_text()
    assert not [line for line in footprint() if "group" in line and "/build-" in line]


def _is_whole(platform: Running, source: Path, number: int, root: Path) -> None:
    """The build that was cut off, done again, with everything in it."""
    platform.command("build", str(source), "-t", f"web:{number}")
    found = platform.json("image", "inspect", f"demo/web:{number}")
    assert found["signed"] is True
    platform.command("image", "export", f"demo/web:{number}", "-o", str(root), "--format", "local")
    assert (root / "src/number").read_text() == str(number)
    assert len(list((root / "files").rglob("*"))) == 300 + 7
    assert {path.read_text() for path in (root / "one").iterdir()} == {f"{number}\n"}
    assert (root / "two").stat().st_size == (24 << 20) + len(str(number))
    assert len((root / "numbers").read_text().split()) == 20000
    shutil.rmtree(root)
