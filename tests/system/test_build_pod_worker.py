"""The worker of builds in Pods, as a process beside a real platform: its channel, its stores, its isolation."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.app.platform import DEFAULT_PROJECT
from slipway.app.settings import load
from slipway.build.cache_images import CacheTarget
from slipway.build.pods.builder import Place
from slipway.build.pods.forms import REFUSED
from slipway.build.sandbox import Limits
from slipway.build.solve import Reporter
from slipway.errors import Cancelled, Conflict, Failed, Invalid, NotFound, Unauthenticated
from slipway.oci import Reference
from slipway.testing.platform import Running
from slipway.testing.workers import WITHOUT_NAMESPACES, Yard, interpreter, yard

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
    assert root.lstat("app/hidden") is None
    assert root.lstat("app/Dockerfile") is None
    entry = root.lstat("made")
    assert entry is not None
    assert (entry.uid, entry.gid) == (7, 8)
    link = root.lstat("app/link")
    assert link is not None
    assert link.target == "text"
    assert "one" in place.log
    assert "two" in place.log
    assert len(place.ran) == 5

    again = await place.build(source, "2")
    assert again.cached
    assert again.digest == built.digest
    assert place.ran == []
    (source / "text").write_text("other text\n")
    third = await place.build(source, "3")
    assert [name.split()[0] for name in place.ran] == ["COPY", "RUN", "COPY", "RUN"]
    assert (await place.root(third)).read("app/text") == b"other text\n"
    assert all(
        not worker.keys.exists() and worker.process.returncode is not None for worker in place.workers.all
    )


async def test_what_a_run_sees_of_the_worker(place: Yard, tmp_path: Path) -> None:
    """Neither the token, nor the session, nor another build's secret, wherever a step looks."""
    source = write(
        tmp_path / "source",
        Dockerfile=(
            "FROM debian:bookworm\n"
            "RUN --mount=type=secret,id=given cat /run/secrets/given > /dev/null\n"
            "RUN cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > /seen; "
            "ls -R /var/run/secrets /run/secrets /run >> /seen 2>&1; "
            "for p in /proc/[0-9]*; do ls $p/root/ $p/cwd/ $p/fd/ >> /seen 2>&1; done; "
            "cat /proc/self/mountinfo >> /seen; env >> /seen; cat /proc/1/maps >> /seen; "
            "(mount -t tmpfs x /mnt; umount /proc; mknod /dev/sda b 8 0; unshare -Ur id) >> /seen 2>&1; true\n"
            "RUN grep -q /run/secrets/given /proc/self/mountinfo && exit 1; test ! -s /run/secrets/given\n"
        ),
    )
    built = await place.build(source, "1", secrets={"given": b"a-very-secret-value"})
    worker = place.workers.all[-1]
    seen = (await place.root(built)).read("seen")
    assert seen is not None
    assert len(seen) > 1000
    seat = worker.ticket.seat.result()
    for secret in (worker.ticket.token, seat.session, "a-very-secret-value", str(worker.keys)):
        assert secret.encode() not in seen
    assert b"Operation not permitted" in seen or b"permission denied" in seen.lower()
    image = (await place.root(built)).walk("run")
    assert not [entry for entry in image if "given" in entry.path]


async def test_mistakes_are_said_as_at_home(place: Yard, tmp_path: Path) -> None:
    broken = write(tmp_path / "broken", Dockerfile="FROM debian:bookworm\nCOPI x y\n")
    with pytest.raises(Invalid, match=r"Dockerfile:2:1: .*COPI"):
        await place.build(broken)
    failing = write(tmp_path / "failing", Dockerfile="FROM debian:bookworm\nRUN echo last words; exit 9\n")
    with pytest.raises(Failed, match=r"Dockerfile:2: .*exit code 9\n  \| last words"):
        await place.build(failing)
    with pytest.raises(NotFound, match="no 'other' in the build context"):
        await place.build(failing, dockerfile="other")
    missing = write(tmp_path / "missing", Dockerfile="FROM nowhere/none:1\n")
    with pytest.raises(Invalid, match="nowhere"):
        await place.build(missing)


async def test_a_cancelled_build_leaves_no_worker(place: Yard, tmp_path: Path) -> None:
    source = write(tmp_path / "source", Dockerfile="FROM debian:bookworm\nRUN echo begun; sleep 1000\n")
    task = asyncio.create_task(place.build(source))
    async with asyncio.timeout(60):
        while "begun" not in place.log:
            await asyncio.sleep(0.05)
    task.cancel()
    began = asyncio.get_running_loop().time()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await task
    assert asyncio.get_running_loop().time() - began < 3
    assert place.workers.all[-1].process.returncode is not None


async def test_a_worker_that_is_killed_is_followed_by_another_that_goes_on_where_it_was(
    place: Yard, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "source",
        Dockerfile=(
            "FROM debian:bookworm\nRUN echo first > /first\nRUN echo second; sleep 3; echo second > /second\n"
        ),
    )
    task = asyncio.create_task(place.build(source))
    async with asyncio.timeout(60):
        while "second" not in place.log:
            await asyncio.sleep(0.02)
    place.workers.all[-1].process.kill()
    built = await task
    assert (await place.root(built)).read("second") == b"second\n"
    assert len(place.workers.all) == 2
    warnings = [event["text"] for event in place.events if event["event"] == "warning"]
    assert any("the build is started again elsewhere" in text for text in warnings)
    assert [name.split()[2] for name in place.ran] == ["first", "second;"]
    cached = [e["name"] for e in place.events if e["event"] == "build.step.done" and e["cached"]]
    assert [name.split()[2] for name in cached] == ["first"]


async def test_a_token_is_good_for_one_worker_and_a_session_for_one_build(
    place: Yard, tmp_path: Path
) -> None:
    desk = place.platform.desk
    ticket = desk.ticket()
    seat = desk.join(ticket.token)
    with pytest.raises(Unauthenticated):
        desk.join(ticket.token)
    with pytest.raises(Conflict):
        _ = desk.seat(seat.session).answers
    desk.withdraw(ticket)
    with pytest.raises(Unauthenticated):
        desk.seat(seat.session)


async def test_contexts_by_name_caches_of_others_and_kept_directories(place: Yard, tmp_path: Path) -> None:
    more = write(tmp_path / "more", note="from elsewhere\n")
    source = write(
        tmp_path / "source",
        Dockerfile=(
            "FROM debian:bookworm\n"
            "COPY --from=extra note /note\n"
            "RUN --mount=type=bind,target=/src cat /src/own > /own\n"
        ),
        own="mine\n",
    )
    cache = Reference.parse("demo/cache:1")
    target = CacheTarget(cache)
    built = await place.build(source, contexts={"extra": more}, cache_to=(target,))
    root = await place.root(built)
    assert root.read("note") == b"from elsewhere\n"
    assert root.read("own") == b"mine\n"
    results = place.platform.results
    await results.forget(await results.beyond(timedelta(days=-1), 0))
    other = await place.build(source, contexts={"extra": more}, cache_from=(cache,))
    assert other.cached
    assert other.digest == built.digest


def test_where_no_user_namespace_may_be_made_nothing_is_built(tmp_path: Path) -> None:
    """Never as a real root instead: the worker ends before it comes in, and says why."""
    keys = tmp_path / "keys"
    write(keys, server="http://127.0.0.1:9", token="t")
    program, environment = interpreter()
    done = subprocess.run(
        [*WITHOUT_NAMESPACES, program, "-m", "slipway.build.pod",
         "--keys", str(keys), "--work", str(tmp_path / "work")],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == REFUSED
    assert "may not make a user namespace" in done.stderr


async def test_a_worker_that_waits_unpacks_the_base_beforehand(place: Yard, tmp_path: Path) -> None:
    source = write(tmp_path / "source", Dockerfile="FROM debian:bookworm\nRUN echo made > /made\n")
    await place.build(source, "1")
    desk, limits = place.platform.desk, Limits(1, 1 << 30, 500, 60)
    reporter = Reporter("idle", "", lambda _: None)
    async with place.workers.started(Place("idle", DEFAULT_PROJECT, limits), desk, reporter) as worker:
        chains = worker.keys.parent / "work" / "worker" / "snapshots" / "layers"
        with desk.beforehand.waits(DEFAULT_PROJECT, await worker.seat()):
            async with asyncio.timeout(120):
                while not any(chains.glob("*/fs/etc/debian_version")):
                    await asyncio.sleep(0.1)
        assert worker.process.returncode is None


async def test_more_that_wait_for_the_server_than_there_are_threads(place: Yard, tmp_path: Path) -> None:
    """Each stage stands on a base of its own and copies a file of its own; all of them come at the same time."""
    count = 3 * ((os.cpu_count() or 1) + 4)
    for number in range(count):
        base = write(
            tmp_path / f"base-{number}", Dockerfile="FROM scratch\nCOPY file /base\n", file=f"{number}\n"
        )
        await place.build(base, f"base-{number}")
    stages = [
        f"FROM {DEFAULT_PROJECT}/web:base-{number} AS s{number}\nCOPY f{number} /own\n"
        for number in range(count)
    ]
    ends = [f"COPY --from=s{number} /own /base /{number}/\n" for number in range(count)]
    files = {f"f{number}": f"of {number}\n" for number in range(count)}
    source = write(tmp_path / "source", Dockerfile="".join([*stages, "FROM scratch\n", *ends]), **files)
    root = await place.root(await place.build(source, "all"))
    assert [root.read(f"{n}/base") for n in range(count)] == [f"{n}\n".encode() for n in range(count)]
    assert [root.read(f"{n}/own") for n in range(count)] == [f"of {n}\n".encode() for n in range(count)]
