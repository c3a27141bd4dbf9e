"""The registry: the same client against Debian's docker-registry (distribution 2.8) and against Slipway, in one run.

    make bench-registry
    .venv/bin/python benchmarks/registry.py --row push --runs 3
    .venv/bin/python benchmarks/registry.py --row scale --manifests 1000000

Every row is done ``--runs`` times by each in turn; medians are compared. Both verify a token (ES256) with every
request. What Slipway acknowledges is verified and on the disk (fsync); docker-registry verifies it and leaves the disk
to the kernel. The last row compares Slipway with itself, at 10,000 manifests: the other keeps tags in files. Where the
client takes most of the time, the same is done against a registry that does nothing (``client alone``).
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import secrets
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from slipway.testing.memory import peak_memory
from slipway.testing.peers import scratch
from slipway.testing.registry_clients import curl, new_layout, skopeo, upload, wrk
from slipway.testing.registry_floor import Floor
from slipway.testing.registry_sides import PROJECT, Distribution, Side, Slipway

RESULTS = Path(__file__).parent / "results" / "registry.json"
GIB, MIB = 1 << 30, 1 << 20
LAYERS, LAYER_SIZE = 40, MIB
TAGS, TAG_PAGE = 100_000, 1000
SMALL = 10_000
CLIENTS = 64


@dataclass(slots=True)
class Bench:
    directory: Path
    stack: ExitStack
    manifests: int
    sides: dict[str, Side]
    client: Side
    blob: str = ""
    done: set[object] = field(default_factory=set)
    scaled: dict[str, Side] = field(default_factory=dict)

    def once(self, *key: object) -> bool:
        """Whether this is the first time that ``key`` is asked for."""
        fresh = key not in self.done
        self.done.add(key)
        return fresh


@dataclass(frozen=True, slots=True)
class Row:
    """``work`` does it once and returns a figure. ``verdict`` says how the goal is meant: *times* the peer's figure at
    least, a *share* of it at most, or a figure that ours stays *below*."""

    title: str
    unit: str
    verdict: str
    goal: float
    work: Callable[[Bench, Side], float]
    runs: int = 0
    sides: Callable[[Bench], dict[str, Side]] = lambda bench: bench.sides
    floor: bool = False
    """Whether the client's own time is worth knowing: it is done against a registry that does nothing, too."""


def push(bench: Bench, side: Side) -> float:
    """MiB a second."""
    blob = bench.directory / "blob"
    if not blob.exists():
        with blob.open("wb") as handle:
            for _ in range(GIB // MIB):
                handle.write(os.urandom(MIB))
    with blob.open("r+b") as handle:
        handle.write(secrets.token_bytes(32))
    with blob.open("rb") as handle:
        bench.blob = "sha256:" + hashlib.file_digest(handle, "sha256").hexdigest()
    os.sync()  # nobody pays for what another left behind
    token = side.token([f"{PROJECT}/blob"])
    began = time.monotonic()
    upload(side, token, f"{PROJECT}/blob", blob, bench.blob)
    return GIB / MIB / (time.monotonic() - began)


def _the_blob(bench: Bench, side: Side) -> str:
    """The address of a blob of 1 GiB that is there."""
    if bench.once("blob", side):
        push(bench, side)
        bench.done.add(("blob is", side, bench.blob))
        if isinstance(side, Floor):
            kept = bench.directory / "kept"
            kept.mkdir()
            shutil.copy(bench.directory / "blob", kept / bench.blob.removeprefix("sha256:"))
            side.has(kept)
    name = next(key[2] for key in bench.done if isinstance(key, tuple) and key[:2] == ("blob is", side))
    return f"http://127.0.0.1:{side.port}/v2/{PROJECT}/blob/blobs/{name}"


def pull(bench: Bench, side: Side) -> float:
    url, token = _the_blob(bench, side), side.token([f"{PROJECT}/blob"])
    began = time.monotonic()
    curl(token, url)
    return GIB / MIB / (time.monotonic() - began)


def memory(bench: Bench, side: Side) -> float:
    """MiB of all the registry's processes while 64 clients pull at once."""
    url = _the_blob(bench, side)
    with peak_memory(side.pids) as peak, ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda _: curl(side.token([f"{PROJECT}/blob"]), url), range(CLIENTS)))
    return peak.mib


def manifest(bench: Bench, side: Side) -> float:
    repository = f"{PROJECT}/image"
    if bench.once("image", side):
        skopeo(
            side,
            repository,
            f"oci:{new_layout(bench.directory, LAYERS, LAYER_SIZE)}:1",
            f"docker://127.0.0.1:{side.port}/{repository}:1",
        )
    url = f"http://127.0.0.1:{side.port}/v2/{repository}/manifests/1"
    return wrk(side, [repository], "-t2", "-c32", url)


def copy_in(bench: Bench, side: Side) -> float:
    layout, repository = new_layout(bench.directory, LAYERS, LAYER_SIZE), f"{PROJECT}/copied"
    os.sync()
    return skopeo(side, repository, f"oci:{layout}:1", f"docker://127.0.0.1:{side.port}/{repository}:1")


def copy_out(bench: Bench, side: Side) -> float:
    repository = f"{PROJECT}/image40"
    remote = f"docker://127.0.0.1:{side.port}/{repository}:1"
    if bench.once("image40", side):
        layout = new_layout(bench.directory, LAYERS, LAYER_SIZE)
        skopeo(side, repository, f"oci:{layout}:1", remote)
        if isinstance(side, Floor):
            side.has(layout / "blobs" / "sha256")
    target = bench.directory / f"out-{secrets.token_hex(4)}"
    os.sync()
    return skopeo(side, repository, remote, f"dir:{target}")


def tag_page(bench: Bench, side: Side) -> float:
    """Milliseconds that 99 of 100 pages take at most, from random places of the list."""
    repository = f"{PROJECT}/tags"
    if bench.once("tags", side):
        skopeo(
            side,
            repository,
            f"oci:{new_layout(bench.directory, LAYERS, LAYER_SIZE)}:1",
            f"docker://127.0.0.1:{side.port}/{repository}:1",
        )
        side.seed_tags(repository, TAGS)
    header = {"Authorization": f"Bearer {side.token([repository])}"}
    connection = http.client.HTTPConnection("127.0.0.1", side.port)
    times = []
    for _ in range(500 if isinstance(side, Slipway) else 5):
        last = f"v{secrets.randbelow(TAGS - TAG_PAGE):07}"
        began = time.monotonic()
        connection.request("GET", f"/v2/{repository}/tags/list?n={TAG_PAGE}&last={last}", headers=header)
        answer = connection.getresponse()
        body = answer.read()
        times.append((time.monotonic() - began) * 1000)
        if answer.status != 200 or len(json.loads(body)["tags"]) < TAG_PAGE:
            raise SystemExit(f"not a page of tags: {answer.status}")
    connection.close()
    return sorted(times)[int(len(times) * 0.99)]


def scaled(bench: Bench) -> dict[str, Side]:
    if not bench.scaled:
        for name, count in (("peer", SMALL), ("slipway", bench.manifests)):
            print(f"  {count} manifests are made", file=sys.stderr, flush=True)
            bench.scaled[name] = Slipway(bench.directory / f"with-{count}-{name}", bench.stack, count)
    return bench.scaled


def by_tag(bench: Bench, side: Side) -> float:
    """Microseconds for one of 2000 manifests, which lie all over the tables."""
    assert isinstance(side, Slipway)
    script = bench.directory / "random.lua"
    paths = ",".join(f'"/v2/{place.repository}/manifests/{place.tag}"' for place in side.paths)
    script.write_text(
        f'local paths = {{{paths}}}\nrequest = function() return wrk.format("GET", paths[math.random(#paths)]) end\n'
    )
    repositories = sorted({place.repository for place in side.paths})
    return 1e6 / wrk(side, repositories, "-t1", "-c1", "-s", str(script), f"http://127.0.0.1:{side.port}")


ROWS = {
    "push": Row("push of a 1 GiB blob", "MiB/s", "times", 2.5, push, floor=True),
    "pull": Row("pull of a 1 GiB blob", "MiB/s", "times", 1.2, pull, floor=True),
    "manifest": Row("manifest by tag, 32 connections", "req/s", "times", 3, manifest),
    "memory": Row("64 clients pull 1 GiB: memory", "MiB", "below", 300, memory, runs=1),
    "copy-in": Row("skopeo copy of 40 layers: push", "s", "share", 0.6, copy_in, floor=True),
    "copy-out": Row("skopeo copy of 40 layers: pull", "s", "share", 0.6, copy_out, floor=True),
    "tags": Row("a page of 100,000 tags, p99", "ms", "below", 10, tag_page),
    "scale": Row("GET by tag, manifests: many/10,000", "µs", "share", 1.5, by_tag, sides=scaled),
}


@dataclass(slots=True)
class Result:
    row: Row
    figures: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])

    @property
    def ratio(self) -> float:
        return self.median("slipway") / self.median("peer")

    @property
    def alone(self) -> str:
        """The client's own figure, and what ratio that would be."""
        if not self.row.floor:
            return ""
        figure = self.median("client")
        return f" {figure:9.1f} ({figure / self.median('peer'):.2f})"

    @property
    def met(self) -> bool:
        goal = self.row.goal
        return {
            "times": self.ratio >= goal,
            "share": self.ratio <= goal,
            "below": self.median("slipway") < goal,
        }[self.row.verdict]


def measure(bench: Bench, row: Row, runs: int) -> Result:
    sides = row.sides(bench)
    if row.floor:
        sides = {**sides, "client": bench.client}
    result = Result(row, {name: [] for name in sides})
    for number in range(runs):
        for name, side in sides.items():
            figure = row.work(bench, side)
            result.figures[name].append(round(figure, 3))
            print(
                f"  {row.title}: {name} {number + 1}/{runs} {figure:.2f} {row.unit}",
                file=sys.stderr,
                flush=True,
            )
    return result


def report(results: Sequence[Result]) -> int:
    print(f"{'row':36} {'peer':>9} {'ours':>9} {'unit':5} {'ratio':>6} {'goal':>7}  {'':6} client alone")
    for item in results:
        sign = {"times": ">=", "share": "<=", "below": "<"}[item.row.verdict]
        unit = "" if item.row.verdict != "below" else f" {item.row.unit}"
        print(
            f"{item.row.title:36} {item.median('peer'):9.1f} {item.median('slipway'):9.1f} {item.row.unit:5} "
            f"{item.ratio:6.2f} {sign:>3}{item.row.goal:4g}{unit}  {'met' if item.met else 'missed':6}{item.alone}"
        )
    met = sum(item.met for item in results)
    print(f"{met} of {len(results)} goals met")
    return 0 if met == len(results) else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", choices=[*ROWS], help="only this row; repeatable")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--manifests", type=int, default=10_000_000, help="how many the last row has")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        sides: dict[str, Side] = {
            "peer": Distribution(directory / "peer", stack),
            "slipway": Slipway(directory / "slipway", stack),
        }
        bench = Bench(directory, stack, chosen.manifests, sides, Floor(directory / "client", stack))
        results = [
            measure(bench, ROWS[name], ROWS[name].runs or chosen.runs) for name in chosen.row or [*ROWS]
        ]
    if not chosen.row:
        rows = [
            {
                "row": item.row.title, "unit": item.row.unit, "figures": item.figures,
                "ratio": round(item.ratio, 3), "verdict": item.row.verdict, "goal": item.row.goal,
            }
            for item in results
        ]  # fmt: skip
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"manifests": chosen.manifests, "rows": rows}, indent=1) + "\n")
    return report(results)


if __name__ == "__main__":
    sys.exit(main())
