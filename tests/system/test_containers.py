"""Containers of the runtime room: what one is, and its life."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.errors import Failed
from slipway.runtime import HealthCheck, Mount, NetworkRequest, Resources, RestartPolicy
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


# What a container is


async def test_it_sees_itself_alone(bench: ContainerBench) -> None:
    text = await bench.output(
        "hostname; id -u; echo $HOME; ls /proc | grep -c '^[0-9]*$'; cat /etc/hostname; grep -c localhost /etc/hosts",
        hostname="web",
    )
    name, uid, home, processes, file, hosts = text.splitlines()
    assert (name, uid, home, file, hosts) == ("web", "0", "/", "web", "2")
    assert int(processes) <= 4


async def test_it_has_dockers_limits_on_what_root_may_do(bench: ContainerBench) -> None:
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


async def test_a_user_of_the_image_has_no_capabilities(bench: ContainerBench) -> None:
    text = await bench.output("id -u; id -g; grep CapEff /proc/self/status", user="1000:100")
    assert text.splitlines() == ["1000", "100", "CapEff:\t0000000000000000"]


async def test_a_read_only_root_with_a_tmpfs(bench: ContainerBench) -> None:
    text = await bench.output(
        "touch /etc/x; touch /work/x && echo wrote", read_only=True, mounts=(Mount("/work", kind="tmpfs"),)
    )
    assert "Read-only file system" in text
    assert text.endswith("wrote")


async def test_memory_and_processes_are_limited(bench: ContainerBench) -> None:
    eats = "x=a; while true; do x=$x$x; done"
    made = await bench.start(eats, resources=Resources(memory=16 << 20))
    await bench.until(made, lambda item: not item.running)
    assert made.exit_code == 137
    assert not Path("oom").exists(), "what conmon notes is in the container's own directory"
    text = await bench.output(
        "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo no", resources=Resources(pids=8)
    )
    assert "fork" in text


async def test_a_volume_begins_with_what_the_image_has_there(bench: ContainerBench, tmp_path: Path) -> None:
    (tmp_path / "vol").mkdir()
    volume = Mount("/bin", str(tmp_path / "vol"), "volume")
    assert "busybox" in await bench.output("ls /bin", mounts=(volume,))
    assert (tmp_path / "vol" / "busybox").exists()
    (tmp_path / "vol" / "mine").write_text("kept")
    assert await bench.output("cat /bin/mine", mounts=(volume,)) == "kept"


async def test_names_and_addresses(bench: ContainerBench) -> None:
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


async def test_exit_code_and_output_are_kept(bench: ContainerBench) -> None:
    made = await bench.start("echo out; echo err >&2; exit 7")
    await bench.until(made, lambda item: not item.running)
    assert made.exit_code == 7
    lines = [(line.stream, line.text) async for line in bench.machine.containers.logs(made.id)]
    assert sorted(lines) == [("stderr", "err"), ("stdout", "out")]


async def test_stopping_asks_first_and_kills_then(bench: ContainerBench) -> None:
    polite = await bench.start("trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done")
    await bench.until_logged(polite, "up")
    await bench.machine.containers.stop(polite.id, 60)
    assert (polite.exit_code, "bye" in await bench.log(polite)) == (0, True)
    deaf = await bench.start("trap '' TERM; echo up; while true; do sleep 0.05; done")
    await bench.until_logged(deaf, "up")
    await bench.machine.containers.stop(deaf.id, 0.2)
    assert deaf.exit_code == 137
    await bench.machine.containers.stop(deaf.id)  # once more is no error


async def test_what_ends_is_started_again_as_its_policy_says(bench: ContainerBench) -> None:
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


async def test_a_killed_process_is_started_again_with_what_it_wrote(bench: ContainerBench) -> None:
    script = "echo x >> /tmp/starts; echo start $(wc -l < /tmp/starts); exec sleep 100"
    made = await bench.start(script, restart=RestartPolicy("unless-stopped"))
    await bench.until_logged(made, "start 1")
    os.kill(made.pid, signal.SIGKILL)
    await bench.until_logged(made, "start 2")
    await bench.until(made, lambda item: item.running)  # it writes before we write it down
    assert made.restarts == 1


async def test_a_log_is_followed_over_restarts(bench: ContainerBench) -> None:
    made = await bench.start("echo again; exit 1", restart=RestartPolicy("on-failure", 2))
    lines = [line.text async for line in bench.machine.containers.logs(made.id, follow=True)]
    assert lines == ["again"] * 3
    assert not made.running


async def test_health_is_probed_inside(bench: ContainerBench) -> None:
    check = HealthCheck(("/bin/test", "-e", "/tmp/well"), interval=0.2, timeout=5, retries=2)
    made = await bench.start("exec sleep 100", health=check)
    await bench.until(made, lambda item: item.health == "unhealthy")
    await bench.inside(made, "touch /tmp/well")
    await bench.until(made, lambda item: item.health == "healthy")


async def test_a_probe_that_takes_too_long_ends(bench: ContainerBench) -> None:
    check = HealthCheck(("/bin/sleep", "1000"), interval=1000, timeout=0.3, retries=1)
    made = await bench.start("exec sleep 100", health=check)
    await bench.until(made, lambda item: item.health == "unhealthy")
    assert len(group_pids(made.id)) == 1, "the probe is still there"


async def test_what_a_probe_says_is_not_kept(bench: ContainerBench) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check = HealthCheck(("/bin/head", "-c", "400000000", "/dev/zero"), interval=1000, timeout=60)
    made = await bench.start("exec sleep 100", health=check)
    await bench.until(made, lambda item: item.health == "healthy")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


async def test_commands_inside(bench: ContainerBench) -> None:
    made = await bench.start("exec sleep 100")
    assert await bench.inside(made, "echo $PATH; hostname") == f"/bin\n{made.id[:12]}"


async def test_what_cannot_start_says_why_and_leaves_nothing(bench: ContainerBench) -> None:
    before = sorted(path.name for path in (bench.settings.data / "containers").iterdir())
    with pytest.raises(Failed, match="no such file"):
        await bench.machine.containers.create(replace(bench.spec(""), argv=("/no/such/program",)))
    assert sorted(path.name for path in (bench.settings.data / "containers").iterdir()) == before
    assert bench.machine.snapshots.container_ids() == []


async def test_removal_leaves_no_process_mount_or_file(bench: ContainerBench) -> None:
    made = await bench.start("sleep 100 & exec sleep 100", networks=())
    await until(lambda: len(group_pids(made.id)) == 2)
    await bench.machine.containers.remove(made.id)
    assert group_pids(made.id) == []
    assert made.id not in Path("/proc/self/mountinfo").read_text()
    assert not (bench.settings.data / "containers" / made.id).exists()
    await bench.machine.containers.remove(made.id)  # once more is no error
