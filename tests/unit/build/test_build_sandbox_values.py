"""Id ranges and the specification of a step, without starting anything."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slipway.build import worker
from slipway.build.sandbox import ID_COUNT, Bind, IdRange, IdRanges, Limits, Network, RunStep, Sandboxes
from slipway.errors import Exhausted
from slipway.snapshots import Active

ACTIVE = Active("a", Path("/d/a/fs"), Path("/d/a/work"), None)


def test_ranges_do_not_overlap_and_come_back(tmp_path: Path) -> None:
    first, second = (IdRanges(tmp_path / "locks", start=1 << 20, count=2) for _ in range(2))
    one, two = first.take(), second.take()
    assert (one.start, two.start) == (1 << 20, (1 << 20) + ID_COUNT)
    with pytest.raises(Exhausted, match="all 2 id ranges"):
        first.take()
    one.release()
    again = second.take()
    assert again.start == one.start
    again.release()
    two.release()


def test_a_step_without_a_network_gets_the_isolated_one() -> None:
    assert step(network="none").to_json("")["network"] == "none"
    assert step(network="default").to_json("")["network"] == "default"


def test_the_specification_of_a_step() -> None:
    found = step(
        network="default", hosts=[("db", "192.0.2.7")], mounts=[Bind(Path("/s"), "/t", read_only=False)]
    ).to_json("nameserver 192.0.2.1\n")
    assert found["files"]["resolv.conf"] == "nameserver 192.0.2.1\n"
    assert found["files"]["hosts"].splitlines()[0].startswith("127.0.0.1 localhost ")
    assert found["files"]["hosts"].endswith("\n192.0.2.7 db\n")
    assert found["mounts"] == [
        {"kind": "bind", "source": "/s", "target": "/t", "read_only": False, "mapped": True}
    ]
    assert (found["upper"], found["work"], found["env"]) == ("/d/a/fs", "/d/a/work", {"A": "2"})


def test_the_worker_loads_nothing_but_its_own_rooms() -> None:
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1])['_bootstrap'](); import slipway.build.worker.main; "
        "print(*(name for name in sys.modules if name.startswith('slipway')))"
    )
    entry = Path(worker.__file__).with_name("__main__.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, entry], capture_output=True, text=True, check=True
    )
    loaded = {name for name in done.stdout.split() if not name.startswith("slipway.build.worker")}
    assert loaded == {
        "slipway", "slipway.base", "slipway.base.linux", "slipway.base.seccomp", "slipway.build",
    }  # fmt: skip


def test_limits_are_recorded() -> None:
    assert Limits(1.5, 2, 3, 4).to_json() == {"cpus": 1.5, "memory": 2, "pids": 3, "seconds": 4, "disk": 0}


def step(
    *, network: Network, hosts: list[tuple[str, str]] | None = None, mounts: list[Bind] | None = None
) -> RunStep:
    env = [("A", "1"), ("A", "2")]  # the later one counts
    return RunStep(
        [Path("/l")], ACTIVE, ["true"], env, "/", 0, 0, (), network, hosts=hosts or (), mounts=mounts or ()
    )


async def test_a_build_that_is_cancelled_as_it_begins_gives_its_range_back(tmp_path: Path) -> None:
    taken = threading.Event()

    class Noted(IdRanges):
        def take(self) -> IdRange:
            try:
                return super().take()
            finally:
                taken.set()

    ranges = Noted(tmp_path / "locks", start=1 << 20, count=1)
    opening = asyncio.create_task(Sandboxes(tmp_path, None, ranges).open("b", Limits()))
    while not taken.is_set():
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    ranges.take().release()
