"""What builds in Pods have in common: steps that are under way, kept directories; and the mode without namespaces."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from slipway.app.platform import DEFAULT_PROJECT
from slipway.app.settings import load
from slipway.build.policy import IN_PLACE, INSECURE
from slipway.errors import Cancelled, Denied, Failed
from slipway.testing.platform import Running
from slipway.testing.workers import Yard, yard

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
SECONDS = 120


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Yard]:
    running = Running.make(tmp_path / "platform")
    running.directory.mkdir()
    await asyncio.to_thread(running.seed_base)
    async with yard(load(None, running.environment)) as found:
        yield found


def write(directory: Path, dockerfile: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    return directory


async def test_a_project_without_room_keeps_no_slot_from_others(tmp_path: Path) -> None:
    running = Running.make(tmp_path / "platform")
    running.directory.mkdir()
    settings = load(None, running.environment, ["kubernetes.builds=1"])
    source = write(tmp_path / "source", "FROM scratch\nCOPY Dockerfile /\n")
    async with yard(settings) as place, asyncio.timeout(SECONDS):
        await place.platform.access.create_project("other")
        place.workers.full.add(DEFAULT_PROJECT)
        waits = asyncio.create_task(place.build(source, "1"))
        try:
            while not any(event.get("text") == "waiting: no room" for event in place.events):
                assert not waits.done()
                await asyncio.sleep(0.05)
            assert (await place.build(source, "1", project="other")).digest
            assert not waits.done()
            place.workers.full.clear()
            assert (await waits).digest
        finally:
            waits.cancel()


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.close()


class Gate:
    """Steps that connect to it wait until they are let through."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)
        port = self._listener.getsockname()[1]
        # What a step of a worker beside us connects to is this machine's: both share its network.
        self.command = (
            f"perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(\"127.0.0.1:{port}\") or die; <$s>'"
        )

    async def arrived(self) -> socket.socket:
        connection, _ = await asyncio.to_thread(self._listener.accept)
        return connection

    def close(self) -> None:
        self._listener.close()

    def nobody_else(self) -> bool:
        self._listener.settimeout(0)
        try:
            self._listener.accept()
        except BlockingIOError:
            return True
        return False


async def until_waiting(place: Yard) -> None:
    async with asyncio.timeout(SECONDS):
        while not place.platform.desk.joining.waiting:
            await asyncio.sleep(0.02)


async def test_an_identical_step_of_two_builds_runs_once(place: Yard, tmp_path: Path, gate: Gate) -> None:
    source = write(tmp_path / "a", f"FROM debian:bookworm\nRUN {gate.command}; date +%N > /moment\n")
    first = asyncio.create_task(place.build(source, "1"))
    connection = await gate.arrived()
    second = asyncio.create_task(place.build(source, "2"))
    await until_waiting(place)
    connection.close()
    one, two = await asyncio.gather(first, second)
    assert one.digest == two.digest
    assert gate.nobody_else()


async def test_the_second_takes_over_when_the_first_ends(place: Yard, tmp_path: Path, gate: Gate) -> None:
    source = write(tmp_path / "a", f"FROM debian:bookworm\nRUN {gate.command}; date +%N > /moment\n")
    first = asyncio.create_task(place.build(source, "1"))
    connection = await gate.arrived()
    second = asyncio.create_task(place.build(source, "2"))
    await until_waiting(place)
    first.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await first
    connection.close()
    (await gate.arrived()).close()
    built = await second
    assert (await place.root(built)).read("moment")


async def test_a_layer_that_nobody_was_in_a_hurry_for_is_written_for_another_build(
    place: Yard, tmp_path: Path, gate: Gate
) -> None:
    """The last step of a stage that is only copied from is written late, unless somebody waits for it."""
    text = (
        "FROM debian:bookworm AS made\nRUN date +%N > /moment\n"
        "FROM debian:bookworm\nCOPY --from=made /moment /\nRUN {}true\n"
    )
    first = asyncio.create_task(place.build(write(tmp_path / "a", text.format(f"{gate.command}; ")), "1"))
    connection = await gate.arrived()
    built = await place.build(write(tmp_path / "b", text.format("")), "2")
    connection.close()
    other = await first
    assert (await place.root(built)).read("moment") == (await place.root(other)).read("moment")


async def test_a_kept_directory_outlives_its_worker_and_is_its_projects(place: Yard, tmp_path: Path) -> None:
    place.workers.kept = place.workers.directory / "volume"
    place.workers.kept.mkdir()
    mount = "--mount=type=cache,target=/kept"
    await place.build(write(tmp_path / "a", f"FROM debian:bookworm\nRUN {mount} echo word > /kept/a\n"))
    command = "cat /kept/a; stat -c '%u:%g' /kept /kept/a; ls -d /cache 2>&1"
    await place.build(write(tmp_path / "b", f"FROM debian:bookworm\nRUN {mount} {command}; true\n"))
    assert place.log.split()[:3] == ["word", "0:0", "0:0"]
    assert [item.keeps for item in place.workers.places] == [True, True]
    (directory,) = place.workers.kept.iterdir()
    assert directory.stat().st_uid > 0x1000_0000, "on disk it is nobody's"
    await place.build(write(tmp_path / "c", "FROM debian:bookworm\nRUN test ! -e /kept/a\n"))
    assert not place.workers.places[-1].keeps


async def test_without_namespaces_nothing_is_built_unless_the_project_may(
    place: Yard, tmp_path: Path
) -> None:
    place.workers.namespaces = False
    source = write(
        tmp_path / "a",
        "FROM debian:bookworm\nRUN cat /proc/self/uid_map; grep -e CapEff -e Seccomp: /proc/self/status; "
        "mount -t tmpfs x /mnt 2>&1; chown 7:8 /etc/issue; ls /work /run/slipway 2>&1; true\n"
        "RUN --network=none cat /proc/net/dev\n",
    )
    with pytest.raises(Failed, match="4 workers were lost") as caught:
        await place.build(source)
    assert f"--allow {IN_PLACE}" in caught.value.hint
    assert all(not item.in_place for item in place.workers.places)

    await place.platform.access.set_policy(DEFAULT_PROJECT, "build", {"allow": [IN_PLACE]})
    built = await place.build(source)
    warnings = [event["text"] for event in place.events if event["event"] == "warning"]
    assert any("a RUN is root on the node" in text for text in warnings)
    lines = place.log.splitlines()
    assert lines[0].split() == Path("/proc/self/uid_map").read_text().split()
    effective = int(next(line for line in lines if line.startswith("CapEff")).split()[1], 16)
    assert effective == 0xA80425FB, "Docker's default capabilities"
    assert any(line.split() == ["Seccomp:", "2"] for line in lines)
    assert any("denied" in line or "not permitted" in line for line in lines if "mount" in line)
    entry = (await place.root(built)).lstat("etc/issue")
    assert entry is not None
    assert (entry.uid, entry.gid) == (7, 8)

    count = len(place.workers.all)
    again = await place.build(source, no_cache=True)
    assert len(place.workers.all) == count + 1, "what was found out is remembered"
    assert any("a RUN is root on the node" in event.get("text", "") for event in place.events)
    assert again.build_id != built.build_id

    await place.platform.access.set_policy(DEFAULT_PROJECT, "build", {"allow": [IN_PLACE, INSECURE]})
    with pytest.raises(Denied, match="--security=insecure"):
        await place.build(write(tmp_path / "b", "FROM debian:bookworm\nRUN --security=insecure true\n"))
