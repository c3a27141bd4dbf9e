"""The limits of a sandbox, how its steps end, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from slipway.build.sandbox import Limits, RunStep, Sandboxes
from slipway.errors import Cancelled, Exhausted
from slipway.testing.sandboxes import PLENTY, Bench, unpack_debian_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
MIB = 1 << 20


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_debian_root(tmp_path_factory.mktemp("images") / "debian")


@pytest.fixture
async def bench(tmp_path: Path, debian: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, [debian])
    yield made
    await made.close()


class DummyNetwork:
    """Puts a device of its own into the namespace."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def attach(self, netns: Path, build_id: str) -> str:
        self.calls.append("attach")
        await self._ip(netns, "link", "add", "outside", "type", "veth", "peer", "name", "inside")
        return "nameserver 192.0.2.1\n"

    async def detach(self, netns: Path, build_id: str) -> None:
        self.calls.append("detach")
        await self._ip(netns, "link", "delete", "outside")

    async def _ip(self, netns: Path, *words: str) -> None:
        process = await asyncio.create_subprocess_exec("nsenter", f"--net={netns}", "ip", *words)
        assert await process.wait() == 0


# Limits


async def test_too_much_memory_is_named_with_the_limit(bench: Bench) -> None:
    await bench.open(Limits(memory=64 * MIB, pids=100))
    with pytest.raises(Exhausted, match="killed: out of memory, the limit is 64 MiB"):
        await bench.run("tail /dev/zero")
    assert await bench.check("echo still here") == "still here"


async def test_too_many_processes_cannot_be_started(bench: Bench) -> None:
    await bench.open(Limits(memory=512 * MIB, pids=40))
    ran = await bench.run("for i in $(seq 60); do sleep 5 & done; echo all")
    assert ran.status != 0
    assert "fork" in ran.stderr
    assert await bench.check("echo still here") == "still here"


async def test_cpus_are_limited(bench: Bench) -> None:
    await bench.open(Limits(cpus=0.5))
    # Two seconds of a busy loop on half a CPU are one second of its time.
    began = time.monotonic()
    text = await bench.check("timeout 2 sh -c 'while :; do :; done'; cat /proc/self/stat > /dev/null; times")
    seconds = float(text.splitlines()[1].split()[0].partition("m")[2].rstrip("s"))
    assert seconds < 0.7 * (time.monotonic() - began)


async def test_the_time_limit_ends_the_build(bench: Bench) -> None:
    await bench.open(Limits(seconds=0.5))
    began = time.monotonic()
    with pytest.raises(Exhausted, match=r"longer than its limit of 0\.5 seconds"):
        await bench.run("sleep 60")
    assert time.monotonic() - began < 30
    with pytest.raises(Exhausted):
        await bench.run("true")


# Ends of a step


@pytest.mark.parametrize(
    ("argv", "cwd", "status", "message"),
    [
        (["nothing-like-it"], "/", 127, "exec: 'nothing-like-it': executable file not found in $PATH\n"),
        (["/no/such"], "/", 127, "exec: '/no/such': no such file or directory\n"),
        (["/etc/passwd"], "/", 126, "exec: '/etc/passwd': permission denied\n"),
        (["/etc"], "/", 126, "exec: '/etc': permission denied\n"),
        (
            ["true"],
            "/no/such",
            127,
            "cannot go to the working directory '/no/such': no such file or directory\n",
        ),
        (
            ["true"],
            "/proc/self/fd/3",
            127,
            "cannot go to the working directory '/proc/self/fd/3': no such file",
        ),
    ],
)
async def test_commands_that_cannot_be_run(
    bench: Bench, argv: list[str], cwd: str, status: int, message: str
) -> None:
    await bench.open()
    ran = await bench.run(argv, cwd=cwd)
    assert ran.status == status
    assert ran.stderr.startswith(message)


async def test_exit_codes_and_signals(bench: Bench) -> None:
    await bench.open()
    assert (await bench.run("exit 3")).status == 3
    assert (await bench.run(["/usr/bin/timeout", "-s", "KILL", "0.1", "sleep", "9"])).status == 137


async def test_signals_are_not_ignored_as_python_does(bench: Bench) -> None:
    await bench.open()
    # grep's own state: a shell blocks signals for the moment in which it starts grep.
    text = await bench.check("grep -E 'Sig(Ign|Blk)' /proc/self/status; umask")
    of_threads = 1 << 31 | 1 << 32  # the C library's own two, which nobody else can set
    assert [int(line.split()[-1], 16) & ~of_threads for line in text.splitlines()[:2]] == [0, 0]
    assert text.splitlines()[2] == "0022"


async def test_what_a_step_leaves_running_dies_with_it(bench: Bench) -> None:
    await bench.open()
    began = time.monotonic()
    ran = await bench.run("setsid sleep 300.75 & (trap '' TERM HUP; sleep 300.75) & echo started")
    assert (ran.status, ran.stdout) == (0, "started\n")
    assert time.monotonic() - began < 60
    assert not _running(b"sleep\x00300.75\x00")


async def test_cancelling_a_step_kills_it_and_spares_the_others(bench: Bench) -> None:
    await bench.open()
    other = asyncio.create_task(bench.run("sleep 1; echo alive"))
    task = asyncio.create_task(bench.run("sleep 300.5"))
    await _until(lambda: bool(_running(b"sleep\x00300.5\x00")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _running(b"sleep\x00300.5\x00")
    assert (await other).stdout == "alive\n"


async def test_a_failing_consumer_of_output_ends_the_step(bench: Bench) -> None:
    await bench.open()

    def full(stream: str, data: bytes) -> None:
        raise RuntimeError("the log is full")

    step = RunStep(bench.lowers, bench.active(), ["yes"], [("PATH", "/usr/bin")], "/", 0, 0, (), "none")
    with pytest.raises(RuntimeError, match="the log is full"):
        await bench.open_sandbox.run(step, full)
    assert not _running(b"yes\x00", bench.open_sandbox.uid_base)


async def test_much_output_arrives_whole_and_in_order(bench: Bench) -> None:
    await bench.open()
    ran = await bench.run("seq 1 400000; echo end >&2")
    lines = ran.stdout.splitlines()
    assert (lines[0], lines[-1], len(lines), ran.stderr) == ("1", "400000", 400_000, "end\n")


async def test_large_environments_and_scripts_arrive(bench: Bench) -> None:
    await bench.open()
    env = [(f"NAME_{number}", "x" * 100_000) for number in range(10)]
    assert await bench.check("env | wc -c", env=env) > "1000000"


async def test_steps_run_side_by_side(bench: Bench) -> None:
    await bench.open()
    steps = [asyncio.create_task(bench.run(f"sleep 300.375; echo {number}")) for number in range(4)]
    await _until(lambda: len(_running(b"sleep\x00300.375\x00")) == 4)
    for pid in _running(b"sleep\x00300.375\x00"):
        os.kill(pid, signal.SIGTERM)
    assert [ran.stdout for ran in await asyncio.gather(*steps)] == ["0\n", "1\n", "2\n", "3\n"]


# Network


async def test_the_network_is_attached_when_first_needed(bench: Bench) -> None:
    network = DummyNetwork()
    await bench.open(network=network)
    assert await bench.check("ls /sys/class/net; cat /etc/resolv.conf") == "lo"
    assert network.calls == []
    for _ in range(2):
        text = await bench.check("ls /sys/class/net; cat /etc/resolv.conf", network="default")
        assert text == "inside\nlo\noutside\nnameserver 192.0.2.1"
    assert await bench.check("ls /sys/class/net", network="none") == "lo"
    await bench.open_sandbox.close()
    assert network.calls == ["attach", "detach"]


# Ends of a sandbox


async def test_closing_ends_everything_within_a_second(bench: Bench) -> None:
    """On a machine with other work, in one of a few attempts."""
    for _ in range(5):
        if await _closing(bench) < 1:
            return
    raise AssertionError("it took longer each time")


async def _closing(bench: Bench) -> float:
    await bench.open()
    sandbox = bench.open_sandbox
    steps = [asyncio.create_task(bench.run("trap '' TERM; sleep 300.25 & sleep 300.25")) for _ in range(3)]
    await _until(lambda: len(_running(b"sleep\x00300.25\x00")) == 6)
    began = time.monotonic()
    await sandbox.close()
    took = time.monotonic() - began
    assert _owned(sandbox.uid_base) == []
    assert not _alive(sandbox.pid)
    assert Sandboxes(bench.directory, None).groups() == []
    for result in await asyncio.gather(*steps, return_exceptions=True):
        assert isinstance(result, Cancelled) or (
            not isinstance(result, BaseException) and result.status == 137
        )
    with pytest.raises(Cancelled):
        await bench.run("true")
    await sandbox.close()
    return took


async def test_cancelling_the_closing_does_not_stop_it(bench: Bench) -> None:
    await bench.open()
    sandbox = bench.open_sandbox
    task = asyncio.create_task(sandbox.close())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await sandbox.close()
    assert not _alive(sandbox.pid)
    assert Sandboxes(bench.directory, None).groups() == []


_SERVER = """
import asyncio, sys
from pathlib import Path
from slipway.testing.sandboxes import Bench

async def main():
    bench = await Bench(Path(sys.argv[1]), [Path(sys.argv[2])]).open()
    print(bench.sandbox.pid, bench.sandbox.uid_base, flush=True)
    await asyncio.gather(*(bench.run("setsid sleep 300.125 & sleep 300.125", network=n) for n in (True, False)))

asyncio.run(main())
"""


async def test_a_killed_server_leaves_only_an_empty_group(tmp_path: Path, debian: Path) -> None:
    mounts = _mounts()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVER, tmp_path, debian, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    worker, base = (int(word) for word in (await server.stdout.readline()).split())
    sandboxes = Sandboxes(tmp_path, None)
    await _until(lambda: len(_running(b"sleep\x00300.125\x00")) == 4)
    assert _mounts() == mounts
    server.send_signal(signal.SIGKILL)
    await server.wait()
    await _gone(base)
    assert not _alive(worker)
    assert _mounts() == mounts
    assert len(sandboxes.groups()) == 1
    sandboxes.recover()
    assert sandboxes.groups() == []
    again = await Bench(tmp_path, [debian]).open(PLENTY)
    try:
        assert await again.check("echo works") == "works"
    finally:
        await again.close()


async def test_a_lost_worker_is_an_error_not_a_hang(bench: Bench) -> None:
    await bench.open()
    sandbox = bench.open_sandbox
    task = asyncio.create_task(bench.run("sleep 300.625"))
    await _until(lambda: bool(_running(b"sleep\x00300.625\x00")))
    os.kill(sandbox.pid, signal.SIGKILL)
    with pytest.raises(Exception, match="ended unexpectedly"):
        await task
    await _gone(sandbox.uid_base)


async def test_sandboxes_have_ids_of_their_own(bench: Bench, tmp_path: Path) -> None:
    await bench.open()
    sandboxes = Sandboxes(tmp_path, None)
    others = [await sandboxes.open(f"other{number}", PLENTY) for number in range(3)]
    try:
        bases = {bench.open_sandbox.uid_base, *(sandbox.uid_base for sandbox in others)}
        assert len(bases) == 4
    finally:
        for sandbox in others:
            await sandbox.close()


def _running(cmdline: bytes, base: int | None = None) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == cmdline and base in (None, path.stat().st_uid):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _owned(base: int) -> list[int]:
    """Living processes with ids of the range that starts at ``base``; an orphan's zombie is for init to collect."""
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            text = path.read_text()
            uid = int(text.partition("Uid:")[2].split()[0])
        except (OSError, IndexError):
            continue
        if base <= uid < base + 65536 and "State:\tZ" not in text:
            found.append(int(path.parent.name))
    return found


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.01)


async def _gone(base: int) -> None:
    """Everything ends by itself."""
    await _until(lambda: not _owned(base))


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()
