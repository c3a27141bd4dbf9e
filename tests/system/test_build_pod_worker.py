"""The worker of builds in Pods, as a process beside a real platform: the channel, the stores behind it, the isolation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.app.settings import load
from slipway.errors import Cancelled, Failed, Invalid, NotFound
from slipway.testing.platform import Running
from slipway.testing.workers import Yard, yard

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Yard]:
    running = Running.make(tmp_path / "platform")
    running.directory.mkdir()
    await asyncio.to_thread(running.seed_base)
    async with yard(load(None, running.environment)) as found:
        yield found


def write(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


async def test_a_build_and_what_is_left_of_it(place: Yard, tmp_path: Path) -> None:
    source = write(
        tmp_path / "source",
        Dockerfile=(
            "FROM debian:bookworm AS base\n"
            "RUN echo made > /made && id -u && cat /proc/self/uid_map && rm /etc/issue && chown 7:8 /made\n"
            "COPY . /app/\n"
            "RUN --mount=type=cache,target=/c echo kept > /c/a; wc -c < /app/text > /size; echo one; echo two >&2\n"
            "FROM base\n"
            "COPY --from=base /size /app/size\n"
            "USER nobody\n"
            "RUN id -u; echo $(id -u) > /tmp/who\n"
        ),
        text="some text\n",
        hidden="x",
        __dockerignore="hidden\nDockerfile\n.dockerignore\n",
    )
    (source / "link").symlink_to("text")
    built = await place.build(source, "1")
    root = await place.root(built)
    assert root.read("made") == b"made\n"
    assert root.read("app/text") == b"some text\n"
    assert root.read("size") == root.read("app/size") == b"10\n"
    assert root.read("tmp/who") == b"65534\n"
    assert root.lstat("etc/issue") is None
    assert root.lstat("app/hidden") is None and root.lstat("app/Dockerfile") is None
    entry = root.lstat("made")
    assert entry is not None and (entry.uid, entry.gid) == (7, 8)
    link = root.lstat("app/link")
    assert link is not None and link.target == "text"
    assert "one" in place.log and "two" in place.log
    assert len(place.ran) == 5

    again = await place.build(source, "2")
    assert again.cached and again.digest == built.digest
    assert place.ran == []
    (source / "text").write_text("other text\n")
    third = await place.build(source, "3")
    assert [name.split()[0] for name in place.ran] == ["COPY", "RUN", "COPY", "RUN"]
    assert (await place.root(third)).read("app/text") == b"other text\n"
    assert all(not worker.keys.exists() and worker.process.returncode is not None for worker in place.workers.all)
