"""Containers of the runtime room, with the real OCI runtime, conmon and networks."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.app.machine import Machine, make_machine, take_down
from slipway.app.settings import Settings, load
from slipway.errors import Failed, Unavailable
from slipway.layers import import_tar
from slipway.runtime import (
    Container,
    ContainerSpec,
    HealthCheck,
    Mount,
    NetworkRequest,
    Resources,
    RestartPolicy,
)
from slipway.snapshots import LayerRef
from slipway.testing.busybox import BUSYBOX, busybox_tar
from slipway.testing.platform import free_port

POOL = "10.93.0.0/16"
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


class Bench:
    """A machine without a platform: snapshots, networks, containers. Can be closed and opened as a server would."""

    machine: Machine

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.chain = ""
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.machine = await make_machine(self.settings)
        if not self.chain:
            layer = import_tar(self.machine.blobs, io.BytesIO(busybox_tar()))
            self.chain = str(self.machine.snapshots.ensure([LayerRef(layer.diff_id, layer.descriptor)]))
        await self.machine.containers.recover()
        self._watching = asyncio.create_task(self.machine.containers.run_forever())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self.machine.containers.close()

    def spec(self, script: str, **values: object) -> ContainerSpec:
        spec = ContainerSpec(
            "test", "busybox", self.chain, ("/bin/sh", "-c", script), env=(("PATH", "/bin"),)
        )
        return replace(spec, stop_timeout=1, **values)  # type: ignore[arg-type]

    async def start(self, script: str, **values: object) -> Container:
        made = await self.machine.containers.create(self.spec(script, **values))
        await self.machine.containers.start(made.id)
        return made

    async def until(self, made: Container, done: Callable[[Container], bool]) -> None:
        assert await self.machine.containers.wait(made.id, done, 60), made

    async def output(self, script: str, **values: object) -> str:
        """What a container that ends by itself wrote."""
        made = await self.start(f"({script}) 2>&1", **values)
        await self.until(made, lambda item: not item.running)
        return await self.log(made)

    async def log(self, made: Container) -> str:
        return "\n".join([line.text async for line in self.machine.containers.logs(made.id)])

    async def inside(self, made: Container, script: str) -> str:
        done = await self.machine.containers.execute(made.id, ["/bin/sh", "-c", script])
        return done.stdout.decode().strip()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    words = {
        "data": tmp_path / "data", "run": tmp_path / "run", "apps.listen": f"127.0.0.1:{free_port()}",
        "network.pool": POOL,
    }  # fmt: skip
    settings = load(None, {}, [f"{name}={value}" for name, value in words.items()])
    settings.data.mkdir(parents=True)
    found = Bench(settings)
    try:
        await found.open()
        yield found
        await found.close()
    finally:
        await take_down(settings)


def _pids(container: str) -> list[str]:
    """The processes of the host that are in the container's control group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if container in path.read_text():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


# What a container is


async def test_it_sees_itself_alone(bench: Bench) -> None:
    text = await bench.output(
        "hostname; id -u; echo $HOME; ls /proc | grep -c '^[0-9]*$'; cat /etc/hostname; grep -c localhost /etc/hosts",
        hostname="web",
    )
    name, uid, home, processes, file, hosts = text.splitlines()
    assert (name, uid, home, file, hosts) == ("web", "0", "/", "web", "2")
    assert int(processes) <= 4


async def test_it_has_dockers_limits_on_what_root_may_do(bench: Bench) -> None:
    text = await bench.output(
        "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp; unshare -m true;"
        "mknod /tmp/disk b 8 0 && cat /tmp/disk; echo 1 > /proc/sys/kernel/panic; head -c1 /proc/kcore | wc -c;"
        "ls -A /sys/firmware | wc -l; mkdir /sys/fs/cgroup/memory/x; grep -c slipway /proc/self/cgroup"
    )
    assert "CapEff:\t00000000a80425fb" in text  # Docker's default set
    assert "Seccomp:\t2" in text
    refusals = (
        "mount: permission denied", "unshare(0x20000): Operation not permitted", "can't open '/tmp/disk'",
        "can't create /proc/sys/kernel/panic", "/sys/fs/cgroup/memory/x",
    )  # fmt: skip
    assert [words for words in refusals if words not in text] == []
    assert text.count("\n0\n0\n") == 1  # nothing in kcore, nothing in firmware
    assert text.endswith("\n0")  # its control group is its root


async def test_a_user_of_the_image_has_no_capabilities(bench: Bench) -> None:
    text = await bench.output("id -u; id -g; grep CapEff /proc/self/status", user="1000:100")
    assert text.splitlines() == ["1000", "100", "CapEff:\t0000000000000000"]


async def test_a_read_only_root_with_a_tmpfs(bench: Bench) -> None:
    text = await bench.output(
        "touch /etc/x; touch /work/x && echo wrote", read_only=True, mounts=(Mount("/work", kind="tmpfs"),)
    )
    assert "Read-only file system" in text
    assert text.endswith("wrote")


async def test_memory_and_processes_are_limited(bench: Bench) -> None:
    eats = "x=a; while true; do x=$x$x; done"
    made = await bench.start(eats, resources=Resources(memory=16 << 20))
    await bench.until(made, lambda item: not item.running)
    assert made.exit_code == 137
    assert not Path("oom").exists(), "what conmon notes is in the container's own directory"
    text = await bench.output(
        "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo no", resources=Resources(pids=8)
    )
    assert "fork" in text


async def test_a_volume_begins_with_what_the_image_has_there(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "vol").mkdir()
    volume = Mount("/bin", str(tmp_path / "vol"), "volume")
    assert "busybox" in await bench.output("ls /bin", mounts=(volume,))
    assert (tmp_path / "vol" / "busybox").exists()
    (tmp_path / "vol" / "mine").write_text("kept")
    assert await bench.output("cat /bin/mine", mounts=(volume,)) == "kept"


async def test_names_and_addresses(bench: Bench) -> None:
    networks = bench.machine.networks
    await networks.ensure("net")
    store = await bench.start("exec sleep 100", networks=(NetworkRequest("net", ("store",)),))
    text = await bench.output(
        "nslookup store; grep other /etc/hosts",
        networks=(NetworkRequest("net", ("web",)),),
        extra_hosts=(("other", "192.0.2.1"),),
    )
    assert store.addresses["net"] in text
    assert "192.0.2.1 other" in text


# Its life


async def test_exit_code_and_output_are_kept(bench: Bench) -> None:
    made = await bench.start("echo out; echo err >&2; exit 7")
    await bench.until(made, lambda item: not item.running)
    assert made.exit_code == 7
    lines = [(line.stream, line.text) async for line in bench.machine.containers.logs(made.id)]
    assert sorted(lines) == [("stderr", "err"), ("stdout", "out")]


async def test_stopping_asks_first_and_kills_then(bench: Bench) -> None:
    polite = await bench.start("trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done")
    await _logged(bench, polite, "up")
    await bench.machine.containers.stop(polite.id, 60)
    assert (polite.exit_code, "bye" in await bench.log(polite)) == (0, True)
    deaf = await bench.start("trap '' TERM; echo up; while true; do sleep 0.05; done")
    await _logged(bench, deaf, "up")
    await bench.machine.containers.stop(deaf.id, 0.2)
    assert deaf.exit_code == 137
    await bench.machine.containers.stop(deaf.id)  # once more is no error


async def test_what_ends_is_started_again_as_its_policy_says(bench: Bench) -> None:
    always = await bench.start("echo run", restart=RestartPolicy("always"))
    thrice = await bench.start("echo run; exit 1", restart=RestartPolicy("on-failure", 2))
    once = await bench.start("echo run", restart=RestartPolicy("on-failure", 2))
    await bench.until(always, lambda item: item.restarts >= 3)
    await bench.until(thrice, lambda item: item.restarts == 2 and not item.running)
    await asyncio.sleep(1)
    assert (thrice.restarts, (await bench.log(thrice)).count("run")) == (2, 3)
    assert (once.restarts, once.exit_code) == (0, 0)
    await bench.machine.containers.stop(always.id)
    seen = always.restarts
    await asyncio.sleep(1.5)
    assert always.restarts == seen


async def test_a_killed_process_is_started_again_with_what_it_wrote(bench: Bench) -> None:
    script = "echo x >> /tmp/starts; echo start $(wc -l < /tmp/starts); exec sleep 100"
    made = await bench.start(script, restart=RestartPolicy("unless-stopped"))
    await _logged(bench, made, "start 1")
    os.kill(made.pid, signal.SIGKILL)
    await _logged(bench, made, "start 2")
    await bench.until(made, lambda item: item.running)  # it writes before we write it down
    assert made.restarts == 1


async def test_health_is_probed_inside(bench: Bench) -> None:
    check = HealthCheck(("/bin/test", "-e", "/tmp/well"), interval=0.2, timeout=5, retries=2)
    made = await bench.start("exec sleep 100", health=check)
    await bench.until(made, lambda item: item.health == "unhealthy")
    await bench.inside(made, "touch /tmp/well")
    await bench.until(made, lambda item: item.health == "healthy")


async def test_commands_inside_and_their_timeout(bench: Bench) -> None:
    made = await bench.start("exec sleep 100")
    assert await bench.inside(made, "echo $PATH; hostname") == f"/bin\n{made.id[:12]}"
    with pytest.raises(Unavailable):
        await bench.machine.containers.execute(made.id, ["/bin/sleep", "50"], 0.3)


async def test_what_cannot_start_says_why_and_leaves_nothing(bench: Bench) -> None:
    before = sorted(path.name for path in (bench.settings.data / "containers").iterdir())
    with pytest.raises(Failed, match="no such file"):
        await bench.machine.containers.create(replace(bench.spec(""), argv=("/no/such/program",)))
    assert sorted(path.name for path in (bench.settings.data / "containers").iterdir()) == before
    assert bench.machine.snapshots.container_ids() == []


async def test_removal_leaves_no_process_mount_or_file(bench: Bench) -> None:
    made = await bench.start("sleep 100 & exec sleep 100", networks=())
    await _until(lambda: len(_pids(made.id)) == 2)
    await bench.machine.containers.remove(made.id)
    assert _pids(made.id) == []
    assert made.id not in Path("/proc/self/mountinfo").read_text()
    assert not (bench.settings.data / "containers" / made.id).exists()
    await bench.machine.containers.remove(made.id)  # once more is no error


# The server's end is not the containers' end


async def test_a_new_server_finds_everything_again(bench: Bench) -> None:
    runs = await bench.start("exec sleep 100", labels={"app": "a"})
    ends = await bench.start("trap 'exit 3' TERM; echo up; while true; do sleep 0.05; done")
    await _logged(bench, ends, "up")
    again = await bench.start("exec sleep 100", restart=RestartPolicy("always"))
    await bench.close()
    for made in (ends, again):
        os.kill(made.pid, signal.SIGTERM if made is ends else signal.SIGKILL)
    await _until(lambda: not _pids(ends.id) and not _pids(again.id))
    await bench.open()
    found = bench.machine.containers
    (same,) = found.list({"app": "a"})
    assert (same.id, same.running, same.pid) == (runs.id, True, runs.pid)
    assert await bench.inside(same, "echo in") == "in"
    assert (found.get(ends.id).state, found.get(ends.id).exit_code) == ("exited", 3)
    await bench.until(again, lambda item: item.running and item.restarts == 1)
    await found.stop(same.id, 0.1)
    assert not found.get(same.id).running


async def test_half_made_containers_are_removed(bench: Bench) -> None:
    made = await bench.machine.containers.create(bench.spec("exec sleep 100"))
    torn = bench.settings.data / "containers" / "torn"
    torn.mkdir()
    (torn / "container.json").write_text('{"id":')
    await bench.close()
    await bench.open()
    assert bench.machine.containers.list() == []
    assert not torn.exists()
    assert _pids(made.id) == []
    assert bench.machine.snapshots.container_ids() == []


async def _logged(bench: Bench, made: Container, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in await bench.log(made):
            await asyncio.sleep(0.02)


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.02)
