"""Builds: the same work by BuildKit, by buildah and by Slipway, in the same run.

    make bench-build
    .venv/bin/python benchmarks/build.py --row unchanged --runs 3

Every row is done ``--runs`` times (5; once the 4 GiB layer) by each in turn; medians are compared with the better peer.
A row's source is written anew for each of them, so that nobody profits from another's page cache alone.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import slipway
from slipway.build.sandbox import Limits, Sandboxes
from slipway.testing.memory import family, peak_memory
from slipway.testing.peers import BASE, Buildah, Docker, scratch, start_registry
from slipway.testing.platform import Running

RESULTS = Path(__file__).parent / "results" / "build.json"
MEMORY_GOAL = 300
WORKER_GOAL = 0.1


class Builder(Protocol):
    def build(self, source: Path, tag: str) -> None: ...
    def push(self, tag: str) -> None: ...


class Slipway:
    """The platform, by its command line; what is built is in its registry already."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        # As an installation does. A checkout compiles as it goes, and not at all with PYTHONDONTWRITEBYTECODE.
        compileall.compile_dir(Path(slipway.__file__).parent, quiet=1)
        self.running = Running.make(directory)
        self.running.seed_base()
        stack.callback(self.running.down)
        self.running.up()

    def build(self, source: Path, tag: str) -> None:
        self.running.command("build", str(source), "-t", tag.rpartition("/")[2])

    def push(self, tag: str) -> None:
        """Nothing is left to do."""


@dataclass(slots=True)
class Bench:
    """Where the work is done, and by whom."""

    directory: Path
    docker: Docker
    buildah: Buildah
    slipway: Slipway
    registry: int
    count: int = 0
    memory: float = 0

    @property
    def builders(self) -> dict[str, Builder]:
        return {"buildkit": self.docker, "buildah": self.buildah, "slipway": self.slipway}

    def salt(self) -> str:
        """A word that no build saw before."""
        self.count += 1
        return f"salt{self.count}-{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Row:
    """``work(bench, name, builder)`` does it once and returns its seconds."""

    title: str
    goal: float
    work: Callable[[Bench, str, Builder], float]
    runs: int = 0


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def write_files(directory: Path, count: int, text: str) -> None:
    """``count`` small files, 100 to a directory."""
    for number in range(count):
        if number % 100 == 0:
            folder = directory / f"d{number // 100:04}"
            folder.mkdir(parents=True)
        (folder / f"f{number:06}").write_text(f"{text} {number}\n" * 8)


def dockerfile(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text(f"FROM {BASE}\n{text}\n")
    return directory


def big_context(bench: Bench, name: str, builder: Builder) -> Path:
    """20,000 files that ``builder`` has built once."""
    source = bench.directory / f"files-{name}"
    if not source.exists():
        write_files(source, 20_000, "content")
        dockerfile(source, "COPY . /src\nRUN ls /src | wc -l > /count")
        builder.build(source, f"127.0.0.1:{bench.registry}/files")
        time.sleep(2.5)  # files that just changed may change again: let them settle for everybody
    return source


def unchanged(bench: Bench, name: str, builder: Builder) -> float:
    source = big_context(bench, name, builder)
    return timed(lambda: builder.build(source, f"127.0.0.1:{bench.registry}/files"))


def one_changed(bench: Bench, name: str, builder: Builder) -> float:
    source = big_context(bench, name, builder)
    (source / "d0100" / "f010000").write_text(bench.salt())
    return timed(lambda: builder.build(source, f"127.0.0.1:{bench.registry}/files"))


def two_stages(bench: Bench, name: str, builder: Builder) -> float:
    salt = bench.salt()
    work = f"sleep 1; head -c 67108864 /dev/urandom > /out; echo {salt}"
    source = bench.directory / f"stages-{name}"
    source.mkdir(exist_ok=True)
    (source / "Dockerfile").write_text(
        f"FROM {BASE} AS one\nRUN {work} one\nFROM {BASE} AS two\nRUN {work} two\n"
        f"FROM {BASE}\nCOPY --from=one /out /one\nCOPY --from=two /out /two\n"
    )
    return timed(lambda: builder.build(source, f"127.0.0.1:{bench.registry}/stages"))


def many_files(bench: Bench, name: str, builder: Builder) -> float:
    salt = bench.salt()
    source = bench.directory / f"many-{salt}"
    write_files(source, 100_000, salt)
    dockerfile(source, "COPY . /src")
    return timed(lambda: builder.build(source, f"127.0.0.1:{bench.registry}/many"))


def large_layer(bench: Bench, name: str, builder: Builder) -> float:
    """Built, and where other clients can pull it from."""
    tag = f"127.0.0.1:{bench.registry}/large"
    source = dockerfile(
        bench.directory / f"large-{name}",
        f"RUN head -c 4294967296 /dev/urandom > /large; echo {bench.salt()}",
    )

    def work() -> None:
        builder.build(source, tag)
        builder.push(tag)

    if name != "slipway":
        return timed(work)
    server = int((bench.slipway.running.directory / "run" / "slipway.pid").read_text())
    with peak_memory(lambda: family(server)) as peak:
        seconds = timed(work)
    bench.memory = max(bench.memory, peak.mib)
    return seconds


def fifty_steps(bench: Bench, name: str, builder: Builder) -> float:
    salt = bench.salt()
    steps = "\n".join(f"RUN echo {salt} > /file{number}" for number in range(50))
    source = dockerfile(bench.directory / f"steps-{name}", steps)
    return timed(lambda: builder.build(source, f"127.0.0.1:{bench.registry}/steps"))


def twenty_at_once(bench: Bench, name: str, builder: Builder) -> float:
    salt = bench.salt()
    sources = []
    for number in range(20):
        source = dockerfile(
            bench.directory / f"at-once-{name}-{number}", "COPY . /src\nRUN cat /src/* > /all"
        )
        for other in range(50):
            (source / f"same{other}").write_text("same")
        (source / "own").write_text(f"{salt} {number}")
        sources.append(source)

    def work() -> None:
        with ThreadPoolExecutor(20) as pool:
            list(
                pool.map(lambda item: builder.build(item, f"127.0.0.1:{bench.registry}/{item.name}"), sources)
            )

    return timed(work)


ROWS = {
    "unchanged": Row("nothing changed, 20,000 files", 0.5, unchanged),
    "one-changed": Row("one of 20,000 files changed, a RUN", 0.4, one_changed),
    "stages": Row("cold: two stages, joined", 0.6, two_stages),
    "files": Row("COPY of 100,000 files, cold", 0.5, many_files),
    "large": Row("4 GiB RUN layer, in a registry", 0.4, large_layer, runs=1),
    "steps": Row("50 RUN steps", 0.5, fifty_steps),
    "at-once": Row("20 builds at once", 0.6, twenty_at_once),
}


@dataclass(slots=True)
class Result:
    title: str
    goal: float
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    @property
    def peer(self) -> str:
        return min((name for name in self.seconds if name != "slipway"), key=self.median)

    @property
    def ratio(self) -> float:
        return self.median("slipway") / self.median(self.peer)

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal


def measure(bench: Bench, row: Row, runs: int) -> Result:
    result = Result(row.title, row.goal, {name: [] for name in bench.builders})
    for number in range(runs):
        for name, builder in bench.builders.items():
            seconds = row.work(bench, name, builder)
            result.seconds[name].append(round(seconds, 3))
            print(f"  {row.title}: {name} {number + 1}/{runs} {seconds:.2f} s", file=sys.stderr, flush=True)
    return result


async def workers(directory: Path, count: int) -> float:
    """The median of starting a worker and ending it, in seconds."""
    sandboxes, found = Sandboxes(directory, None), []
    for number in range(count + 1):
        began = time.monotonic()
        await (await sandboxes.open(f"bench{number}", Limits(cpus=1, memory=1 << 28, pids=100))).close()
        found.append(time.monotonic() - began)
    return statistics.median(found[1:])


def report(results: list[Result], memory: float, worker: float) -> int:
    print(f"{'row':36} {'peer':>9} {'peer s':>8} {'ours s':>8} {'ratio':>6} {'goal':>6}")
    verdicts = []
    for item in results:
        verdicts.append(item.met)
        print(
            f"{item.title:36} {item.peer:>9} {item.median(item.peer):8.2f} {item.median('slipway'):8.2f} "
            f"{item.ratio:6.2f} {item.goal:6.2f}  {'met' if item.met else 'missed'}"
        )
    for title, value, goal, unit in (
        ("memory during the 4 GiB layer", memory, MEMORY_GOAL, "MiB"),
        ("a worker's start and end", worker * 1000, WORKER_GOAL * 1000, "ms"),
    ):
        if value:
            verdicts.append(value <= goal)
            verdict = "met" if value <= goal else "missed"
            print(f"{title:36} {'':>9} {'':>8} {value:8.0f} {'':>6} {goal:6.0f}  {verdict} ({unit})")
    print(f"{sum(verdicts)} of {len(verdicts)} goals met")
    return 0 if all(verdicts) else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", choices=[*ROWS, "worker"], help="only this row; repeatable")
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    rows = chosen.row or [*ROWS, "worker"]
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        for name in ("docker", "buildah"):
            (directory / name).mkdir()
        bench = Bench(
            directory,
            Docker(directory / "docker", stack),
            Buildah(directory / "buildah"),
            Slipway(directory / "slipway", stack),
            start_registry(directory, stack),
        )
        results = [
            measure(bench, ROWS[name], ROWS[name].runs or chosen.runs) for name in rows if name in ROWS
        ]
        worker = asyncio.run(workers(directory, 20)) if "worker" in rows else 0
        record = {
            "rows": [
                {"row": item.title, "seconds": item.seconds, "ratio": round(item.ratio, 3), "goal": item.goal}
                for item in results
            ],
            "memory_mib": round(bench.memory),
            "worker_ms": round(worker * 1000, 1),
        }
        if not chosen.row:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(record, indent=1) + "\n")
        # Before the files of all rows are removed, which takes minutes.
        return report(results, bench.memory, worker)


if __name__ == "__main__":
    sys.exit(main())
