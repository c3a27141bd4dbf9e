"""The server's end is not the containers' end, and neither is trouble with what is around them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from slipway.base.process import run
from slipway.errors import Failed, NotFound
from slipway.network import netns
from slipway.runtime import Container, Containers, Mount, NetworkRequest, RestartPolicy
from slipway.testing.busybox import BUSYBOX
from slipway.testing.containers import ContainerBench, container_bench, group_pids, until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ContainerBench]:
    async with container_bench(tmp_path) as found:
        yield found


# A new server


async def test_a_new_server_finds_everything_again(bench: ContainerBench) -> None:
    runs = await bench.start("exec sleep 100", labels={"app": "a"})
    ends = await bench.start("trap 'exit 3' TERM; echo up; while true; do sleep 0.05; done")
    await bench.until_logged(ends, "up")
    again = await bench.start("exec sleep 100", restart=RestartPolicy("always"))
    await bench.close()
    for made in (ends, again):
        os.kill(made.pid, signal.SIGTERM if made is ends else signal.SIGKILL)
    await until(lambda: not group_pids(ends.id) and not group_pids(again.id))
    await bench.open()
    found = bench.machine.containers
    (same,) = found.list({"app": "a"})
    assert (same.id, same.running, same.pid) == (runs.id, True, runs.pid)
    assert await bench.inside(same, "echo in") == "in"
    await bench.until(ends, lambda item: not item.running)
    assert (found.get(ends.id).state, found.get(ends.id).exit_code) == ("exited", 3)
    await bench.until(again, lambda item: item.running and item.restarts == 1)
    await found.stop(same.id, 0.1)
    assert not found.get(same.id).running


async def test_half_made_containers_are_removed(bench: ContainerBench) -> None:
    made = await bench.machine.containers.create(bench.spec("exec sleep 100"))
    torn = bench.settings.data / "containers" / "torn"
    torn.mkdir()
    (torn / "container.json").write_text('{"id":')
    await bench.close()
    await bench.open()
    assert bench.machine.containers.list() == []
    assert not torn.exists()
    assert group_pids(made.id) == []
    assert bench.machine.snapshots.container_ids() == []


async def test_one_that_cannot_be_read_goes_with_its_processes(bench: ContainerBench) -> None:
    made = await bench.start("exec sleep 100", restart=RestartPolicy("always"))
    await bench.close()
    _record(bench, made).write_text('{"id":')
    await bench.open()
    assert bench.machine.containers.list() == []
    assert group_pids(made.id) == []
    assert made.id not in Path("/proc/self/mountinfo").read_text()
    assert not _record(bench, made).parent.exists()


async def test_one_that_runs_unknown_to_its_record_can_be_started(bench: ContainerBench) -> None:
    """As if the server had been killed when it had just started it again."""
    made = await bench.start("exec sleep 100")
    await bench.close()
    record = json.loads(_record(bench, made).read_text())
    _record(bench, made).write_text(json.dumps({**record, "state": "exited", "exit_code": 1}))
    await bench.open()
    await bench.machine.containers.start(made.id)
    assert await bench.inside(made, "echo in") == "in"


async def test_what_it_ended_with_is_waited_for(bench: ContainerBench) -> None:
    """Its monitor has not said it yet when the new server begins."""
    made = await bench.start("trap 'exit 3' TERM; echo up; while true; do sleep 0.05; done")
    await bench.until_logged(made, "up")
    await bench.close()
    monitor = _monitor(bench, made)
    os.kill(monitor, signal.SIGSTOP)
    try:
        os.kill(made.pid, signal.SIGTERM)
        await until(lambda: "Z" in Path(f"/proc/{made.pid}/stat").read_text().rpartition(")")[2])
        await bench.open()
    finally:
        os.kill(monitor, signal.SIGCONT)
    found = bench.machine.containers.get(made.id)
    await bench.until(found, lambda item: not item.running)
    assert found.exit_code == 3


async def test_after_a_reboot_it_runs_again_with_what_it_wrote(bench: ContainerBench) -> None:
    await bench.machine.networks.ensure("net")
    script = "echo x >> /tmp/starts; echo start $(wc -l < /tmp/starts); exec sleep 100"
    always = RestartPolicy("always")
    made = [
        await bench.start(script, restart=always, networks=(NetworkRequest("net"),)),
        await bench.start(script, restart=always),
    ]
    for item in made:
        await bench.until_logged(item, "start 1")
    await bench.close()
    for item in made:
        os.kill(_monitor(bench, item), signal.SIGKILL)
        os.kill(item.pid, signal.SIGKILL)
        await until(lambda item=item: not group_pids(item.id))  # type: ignore[misc]
        await run(["umount", _record(bench, item).parent / "rootfs"])
        netns.delete(bench.settings.run / "netns" / item.id)
    for directory in ("oci", "exits", "attach"):
        shutil.rmtree(bench.settings.run / directory)
    await bench.open()
    for item in made:
        await bench.until_logged(item, "start 2")
        await bench.until(item, lambda item: item.running)
    found = bench.machine.containers.get(made[0].id)
    assert found.address in await bench.inside(found, "ip address")


# What is around them


@pytest.mark.parametrize("server", ["runs", "starts"])
async def test_an_exit_file_with_garbage_is_an_end(bench: ContainerBench, server: str) -> None:
    made = await bench.start("exec sleep 100")
    exits = bench.settings.run / "exits" / made.id
    if server == "starts":
        await bench.close()
        os.kill(made.pid, signal.SIGKILL)
        await until(exits.exists)
    exits.with_name("torn").write_bytes(b"\0\xff\n")
    exits.with_name("torn").rename(exits)
    if server == "starts":
        await bench.open()
    found = bench.machine.containers.get(made.id)
    await bench.until(found, lambda item: not item.running)
    assert found.exit_code == 255
    await _still_noticed(bench)


async def test_without_its_monitor_its_end_is_noticed(bench: ContainerBench) -> None:
    made = await bench.start("exec sleep 100", restart=RestartPolicy("always"))
    os.kill(_monitor(bench, made), signal.SIGKILL)
    os.kill(made.pid, signal.SIGKILL)
    await bench.until(made, lambda item: item.restarts == 1 and item.running)
    assert await bench.inside(made, "echo in") == "in"


async def test_ends_are_noticed_on_a_full_disk(bench: ContainerBench) -> None:
    with _small_disk(bench.settings.data / "containers") as disk:
        made = await bench.start("exec sleep 100", restart=RestartPolicy("always"))
        other = await bench.start("exec sleep 100")
        _fill(disk / "full")
        os.kill(made.pid, signal.SIGKILL)
        await bench.until(made, lambda item: not item.running)
        await bench.machine.containers.stop(other.id, 0.1)
        assert other.exit_code == 137
        await bench.machine.containers.remove(other.id)
        assert not _record(bench, other).parent.exists()
        (disk / "full").unlink()
        await bench.until(made, lambda item: item.running)
        await bench.machine.containers.remove(made.id)


async def test_a_volume_that_was_half_filled_is_filled_again(bench: ContainerBench, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with _small_disk(tmp_path / "disk") as disk:
        volume = Mount("/bin", str(disk / "volume"), "volume")
        with pytest.raises(Failed, match="No space left"):
            await bench.start("true", mounts=(volume,))
        assert list((disk / "volume").iterdir()) == []
        await run(["mount", "-o", "remount,size=64m", disk])
        assert await bench.output("echo whole", mounts=(volume,)) == "whole"
        assert (disk / "volume" / "busybox").stat().st_size == BUSYBOX.stat().st_size
        for made in bench.machine.containers.list():
            await bench.machine.containers.remove(made.id)


async def test_one_that_is_given_up_while_it_is_made_leaves_no_process(
    bench: ContainerBench, tmp_path: Path
) -> None:
    """What is deleted too early the runtime makes afterwards."""
    slow, deleted = tmp_path / "slow", tmp_path / "deleted"
    slow.write_text(
        "#!/bin/sh\n"
        f'case " $* " in *" create "*) for n in $(seq 50); do [ -e {deleted} ] && break; sleep 0.02; done;; esac\n'
        f'runc "$@"; code=$?\ncase " $* " in *" delete "*) touch {deleted};; esac\nexit $code\n'
    )
    slow.chmod(0o755)
    machine, settings = bench.machine, bench.settings
    containers = Containers(settings.data, settings.run, machine.snapshots, machine.networks, str(slow), str)
    making = asyncio.create_task(containers.create(bench.spec("exec sleep 100")))
    await until(lambda: bool(list(settings.data.glob("containers/*/bundle/conmon.pid"))))
    (container,) = os.listdir(settings.data / "containers")
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert deleted.exists()
    await until(lambda: not _running(container))
    assert group_pids(container) == []
    assert os.listdir(settings.data / "containers") == []


# Removal


@pytest.mark.parametrize("by", ["this server", "the next one"])
async def test_a_removal_that_failed_is_made_good(bench: ContainerBench, by: str) -> None:
    made = await bench.start("exec sleep 100", restart=RestartPolicy("always"))
    space = bench.settings.run / "netns" / made.id
    netns.delete(space)
    space.mkdir()  # what is there cannot be unlinked
    with pytest.raises(OSError, match="directory"):
        await bench.machine.containers.remove(made.id)
    assert bench.machine.containers.list() == [made]
    with pytest.raises(NotFound):
        await bench.machine.containers.start(made.id)
    if by == "this server":
        space.rmdir()
        await bench.machine.containers.remove(made.id)
    else:
        await bench.close()
        space.rmdir()
        await bench.open()
    assert bench.machine.containers.list() == []
    assert not _record(bench, made).parent.exists()
    assert bench.machine.snapshots.container_ids() == []


async def test_it_may_end_and_be_stopped_and_removed_twice_at_once(
    bench: ContainerBench, tmp_path: Path
) -> None:
    """Its end is noticed, and both removals begin, while the runtime still sends the signal."""
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\nrunc "$@"; code=$?\ncase " $* " in *" kill "*) sleep 1;; esac\nexit $code\n')
    slow.chmod(0o755)
    await bench.close()
    machine, settings = bench.machine, bench.settings
    machine.containers = Containers(
        settings.data, settings.run, machine.snapshots, machine.networks, str(slow), str
    )
    bench.watching = asyncio.create_task(machine.containers.run_forever())
    made = await bench.start("trap 'exit 0' TERM; echo up; while true; do sleep 0.01; done")
    await bench.until_logged(made, "up")
    stopping = asyncio.create_task(machine.containers.stop(made.id))
    await asyncio.sleep(0)  # it has its turn first
    await asyncio.gather(*(machine.containers.remove(made.id) for _ in range(2)))
    with suppress(NotFound):
        await stopping
    assert not _record(bench, made).parent.exists()
    await _still_noticed(bench)


async def test_nothing_is_planned_for_what_was_removed(bench: ContainerBench) -> None:
    tasks = asyncio.all_tasks()
    made = await bench.start("exit 1", restart=RestartPolicy("always"))
    await bench.until(made, lambda item: item.restarts == 4 and not item.running)
    await bench.machine.containers.start(made.id)  # before its time
    await bench.until(made, lambda item: not item.running)
    await bench.machine.containers.remove(made.id)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - tasks == set()


async def _still_noticed(bench: ContainerBench) -> None:
    made = await bench.start("exit 4")
    await bench.until(made, lambda item: item.exit_code == 4)


def _running(container: str) -> list[Path]:
    """The processes that were started for it, and are at it still."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if container.encode() in path.read_bytes():
                found.append(path)
    return found


def _record(bench: ContainerBench, made: Container) -> Path:
    return bench.settings.data / "containers" / made.id / "container.json"


def _monitor(bench: ContainerBench, made: Container) -> int:
    return int((_record(bench, made).parent / "bundle" / "conmon.pid").read_text())


@contextmanager
def _small_disk(path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "disk", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as handle, suppress(OSError):
        while True:
            handle.write(bytes(4096))
