"""Secrets and SSH agents of builds in Pods: what a worker is told, when, and where it is to be found there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from slipway.app.settings import load
from slipway.errors import Cancelled
from slipway.testing.agents import ASK, SocketAgent, ssh_agent
from slipway.testing.platform import Running
from slipway.testing.workers import Process, Yard, yard

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
VALUE = b"a-very-secret-value-of-this-build"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Yard]:
    running = Running.make(tmp_path / "platform")
    running.directory.mkdir()
    await asyncio.to_thread(running.seed_base)
    async with yard(load(None, running.environment)) as found:
        yield found


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[SocketAgent]:
    if shutil.which("ssh-agent") is None:
        pytest.skip("needs openssh-client")
    with ssh_agent(tmp_path, "the key") as path:
        yield SocketAgent(path)


def write(directory: Path, dockerfile: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    return directory


async def said(place: Yard, text: str, task: asyncio.Task[object]) -> None:
    async with asyncio.timeout(120):
        while text not in place.log:
            assert not task.done(), task.result()
            await asyncio.sleep(0.05)


async def ended(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await task


def processes(worker: Process) -> list[int]:
    """The worker's, and all below it."""
    found, pending = [], [worker.process.pid]
    while pending:
        pid = pending.pop()
        found.append(pid)
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                pending += map(int, (thread / "children").read_text().split())
        except FileNotFoundError:
            continue
    return found


def in_files(worker: Process) -> bool:
    """Whether the value is in any file of the worker's, which in a Pod are on its node's disk."""
    paths = [path for path in worker.keys.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(paths) > 100, "there are layers, at least"
    return any(VALUE in path.read_bytes() for path in paths)


def in_environments(worker: Process) -> bool:
    texts = [Path(f"/proc/{pid}/{name}") for pid in processes(worker) for name in ("environ", "cmdline")]
    return any(VALUE in path.read_bytes() for path in texts if path.exists())


def in_memory(worker: Process) -> bool:
    """Whether any process of the worker's has the value."""
    for pid in processes(worker):
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if match is None:
                    continue
                start, end = (int(number, 16) for number in match.groups())
                try:
                    memory.seek(start)
                    data = memory.read(end - start)
                except OSError:
                    continue
                if VALUE in data:
                    return True
    return False


async def test_a_worker_has_a_secret_only_when_a_step_mounts_it_and_on_no_disk(
    place: Yard, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "source",
        "FROM debian:bookworm\n"
        "RUN cat /run/secrets/given 2>&1; env; echo wait''ing; while ! test -e /go; do sleep 1; done\n"
        "RUN --mount=type=secret,id=given true\n",
    )
    task = asyncio.create_task(place.build(source, secrets={"given": VALUE}))
    await said(place, "waiting", task)
    worker = place.workers.all[-1]
    assert not await asyncio.to_thread(in_memory, worker), "no step that mounts it runs"
    assert not await asyncio.to_thread(in_files, worker)
    assert VALUE.decode() not in place.log
    assert await asyncio.to_thread(asked, place, worker, "given") == 200
    assert await asyncio.to_thread(asked, place, worker, "another") == 404
    await ended(task)

    source = write(
        tmp_path / "mounting",
        "FROM debian:bookworm\n"
        "RUN --mount=type=secret,id=given --mount=type=secret,id=given,env=GIVEN,target=/s "
        "wc -c < /run/secrets/given; printenv GIVEN | wc -c; stat -f -c %T /run/secrets/given; "
        "echo mount''ed; while ! test -e /go; do sleep 1; done\n",
    )
    task = asyncio.create_task(place.build(source, secrets={"given": VALUE}))
    await said(place, "mounted", task)
    worker = place.workers.all[-1]
    lines = place.log.split()
    assert lines[:3] == [str(len(VALUE)), str(len(VALUE) + 1), "tmpfs"]
    assert await asyncio.to_thread(in_memory, worker), "this test would see it"
    assert not await asyncio.to_thread(in_files, worker)
    await ended(task)

    source = write(
        tmp_path / "file",
        "FROM debian:bookworm\nRUN --mount=type=secret,id=given true\n"
        "RUN test ! -s /run/secrets/given; echo af''ter; while ! test -e /go; do sleep 1; done\n",
    )
    task = asyncio.create_task(place.build(source, secrets={"given": VALUE}))
    await said(place, "after", task)
    worker = place.workers.all[-1]
    assert not await asyncio.to_thread(in_files, worker)
    assert not await asyncio.to_thread(in_environments, worker)
    await ended(task)


def asked(place: Yard, worker: Process, name: str) -> int:
    """With what status the server answers this worker when it asks for a secret."""
    request = urllib.request.Request(
        f"{place.workers.server}/api/v1/workers/ask/secret",
        json.dumps({"id": name}).encode(),
        {"Authorization": f"Bearer {worker.ticket.seat.result().session}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_a_secret_that_is_missing_or_not_required(place: Yard, tmp_path: Path) -> None:
    source = write(
        tmp_path / "optional",
        "FROM debian:bookworm\nRUN --mount=type=secret,id=none test ! -e /run/secrets/none && echo fine\n",
    )
    await place.build(source)
    assert "fine" in place.log


async def test_an_agent_lists_and_signs_for_a_step_and_does_nothing_else(
    place: Yard, tmp_path: Path, agent: SocketAgent
) -> None:
    source = write(
        tmp_path / "source",
        f"FROM debian:bookworm\nCOPY <<'EOF' /ask.pl\n{ASK}EOF\n"
        "RUN --mount=type=ssh perl /ask.pl list > /keys; perl /ask.pl sign > /signed; perl /ask.pl clear > /cleared\n"
        'RUN test -z "$SSH_AUTH_SOCK" && ! test -e /run/buildkit/ssh_agent.0\n',
    )
    built = await place.build(source, agents={"default": agent})
    root = await place.root(built)
    assert b"the key" in (root.read("keys") or b"")
    assert root.read("signed") == b"14\n"
    assert root.read("cleared") == b"5\n"
    listed = await agent.ask(bytes([11]))
    assert b"the key" in listed
