"""Builds as Pods and apps on a cluster, beside what is done with kubectl, on the same cluster in the same run.

    make bench-kubernetes
    .venv/bin/python benchmarks/kubernetes.py --row deliver --runs 1

The peers: a build is a privileged Pod of buildah's, made with kubectl and asked about every 20 s in the first two rows
(as build systems over a cluster do) and all the time in the others, or a Job where its node dies; a delivery is a build
and a push on this machine, `kubectl set image` and `kubectl rollout status`; many apps are `kubectl apply` of what is
there already. The goals are seconds, or what the title says; the ratio says how much of the peer's time ours took.
Perfect packing is what one build of half a minute takes alone, times the rounds that the nodes' free room makes of all;
that its step only waits is since the nodes of the test cluster share this machine's processors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slipway.engines.kubernetes import manifests, namespace_manifest
from slipway.errors import Failed
from slipway.testing.kubernetes import LocalCluster, busybox_image
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_apps import opened_bench
from slipway.testing.kubernetes_builds import only
from slipway.testing.kubernetes_peers import NAMESPACE, POLL_SECONDS, ByHand
from slipway.testing.kubernetes_room import overloaded, room
from slipway.testing.peers import BASE, Buildah, scratch
from slipway.testing.platform import Running, write_app
from slipway.testing.sandboxes import buildah_tar

RESULTS = Path(__file__).parent / "results" / "kubernetes.json"
SECRET = "correct horse"
AT_ONCE, STEP_SECONDS = 30, 30
CPUS, MEMORY = 2, 4 << 30  # a build's limits, as they are without a setting
ASKED = {"cpu": CPUS / 4, "memory": MEMORY / 2}  # of a node by either side's build
APPS = 500
BUILD_SECONDS = 600.0  # after which one has failed
FIRST_STEP = "STEP 3/3"  # what the peer's log says then, after FROM and LABEL
GONE_SECONDS = 60.0  # after which a build whose node died does not come back any more


@dataclass(slots=True)
class Bench:
    directory: Path
    cluster: LocalCluster
    slipway: Running
    peer: ByHand
    runs: int = 1
    count: int = 0

    def source(self, steps: str) -> Path:
        """A new context, whose every step is new."""
        self.count += 1
        found = self.directory / f"source{self.count}"
        found.mkdir()
        text = f"FROM {BASE}\nLABEL salt={self.count}-{os.getpid()}\n{steps}\n"
        (found / "Dockerfile").write_text(text.replace("SALT", f"{self.count}-{os.getpid()}"))
        return found

    def peer_build(self, source: Path, word: str, every: float = POLL_SECONDS) -> float:
        return self.peer.build(source.name, source, word, every)


@dataclass(slots=True)
class Row:
    """Seconds unless the title says otherwise; ``peer`` is 0 where there is none."""

    title: str
    goal: float
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def met(self) -> bool:
        return statistics.median(self.ours) <= self.goal

    @property
    def ratio(self) -> float | None:
        """``None`` without a peer, or where the peer has nothing to divide by."""
        theirs = statistics.median(self.peer) if self.peer else 0.0
        return statistics.median(self.ours) / theirs if theirs > 0 else None

    def __str__(self) -> str:
        peer = f"{statistics.median(self.peer):8.2f}" if self.peer else f"{'-':>8}"
        ratio = f"{self.ratio:6.2f}" if self.ratio is not None else f"{'-':>6}"
        verdict = "met" if self.met else "missed"
        return (
            f"{self.title:56} {peer} {statistics.median(self.ours):8.2f} {ratio} {self.goal:6.2f}  {verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        ours, peer = (
            [round(item, 3) for item in items if item < math.inf] for items in (self.ours, self.peer)
        )
        return {
            "row": self.title, "peer": peer, "ours": ours, "ratio": self.ratio, "goal": self.goal, "met": self.met,
        }  # fmt: skip


@contextmanager
def phase(title: str) -> Iterator[None]:
    """What is done now, and how long it took: setting up takes minutes, in which nothing else is said."""
    say(f"  {title} …")
    began = time.monotonic()
    yield
    say(f"  {title}: {time.monotonic() - began:.1f} s")


def say(text: object) -> None:
    print(text, file=sys.stderr, flush=True)


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def build(bench: Bench, source: Path, *words: str) -> None:
    bench.slipway.command("build", str(source), "-t", "bench", *words, seconds=BUILD_SECONDS)


def first_step(running: Running, source: Path) -> float:
    """From the command's start until what its first step says is here: the step has begun, on its base image."""
    began = time.monotonic()
    words = ("--output", "json", "build", str(source), "-t", "bench", "--builder", "kubernetes")
    process = running.start_command(*words)
    assert process.stdout is not None
    found = 0.0
    for line in process.stdout:
        if not found and json.loads(line).get("event") == "build.log":
            found = time.monotonic() - began
    if process.wait() or not found:
        raise Failed(f"a build in a Pod failed: {process.communicate()[1].decode()[-2000:]}")
    return found


def cold(bench: Bench) -> list[Row]:
    row = Row("submit to what the first step says, a fresh Pod", 2.5)
    for _ in range(bench.runs):
        source = bench.source("RUN echo SALT")
        row.ours.append(first_step(bench.slipway, source))
        row.peer.append(bench.peer_build(source, FIRST_STEP))
    return [row]


def idle(bench: Bench) -> list[Row]:
    """By a second server, which keeps a worker ready; the peer has none."""
    row = Row("submit to what the first step says, an idle worker", 0.3)
    with ExitStack() as stack:
        running = platform(
            bench.cluster, bench.directory / "idle", stack, SLIPWAY_KUBERNETES_IDLE_WORKERS="1"
        )
        first_step(running, bench.source("RUN echo SALT"))
        for number in range(bench.runs):
            until(lambda: bool(workers(bench.cluster)), "a worker waits", 120)
            time.sleep(8)  # it comes in, and unpacks what builds stand on
            source = bench.source("RUN echo SALT")
            row.ours.append(first_step(running, source))
            if number == 0:
                row.peer.append(bench.peer_build(source, FIRST_STEP))
    until(lambda: not workers(bench.cluster), "nobody waits any more", 120)
    return [row]


def overhead(bench: Bench) -> list[Row]:
    steps = "RUN sleep 1; head -c 1000000 /dev/urandom > /SALT\nRUN echo SALT > /last"
    more, again = (
        Row("a build in a Pod above one on this machine", 4.0),
        Row("the same again, nothing changed", 3.0),
    )
    for _ in range(bench.runs):
        here, there, peer = bench.source(steps), bench.source(steps), bench.source(steps)
        local = timed(lambda source=here: build(bench, source))  # type: ignore[misc]
        pod = timed(lambda source=there: build(bench, source, "--builder", "kubernetes"))  # type: ignore[misc]
        more.ours.append(pod - local)
        again.ours.append(timed(lambda source=there: build(bench, source, "--builder", "kubernetes")))  # type: ignore[misc]
        by_hand = timed(lambda source=peer: bench.peer.buildah.build(source, "bench"))  # type: ignore[misc]
        more.peer.append(bench.peer_build(peer, "PUSHED", every=0.2) - by_hand)
    return [more, again]


def at_once(bench: Bench) -> list[Row]:
    row = Row(f"{AT_ONCE} builds at once, times of perfect packing", 1.3)
    above = Row("nodes above their limits meanwhile", 0)
    steps = f"RUN sleep {STEP_SECONDS}; echo SALT"
    alone = bench.source(steps)
    seconds = timed(lambda: build(bench, alone, "--builder", "kubernetes"))
    places = room(bench.cluster, ASKED)
    perfect = math.ceil(AT_ONCE / places) * seconds
    say(f"    alone {seconds:.1f} s, {places} at a time, packed perfectly {perfect:.1f} s")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sources = [bench.source(steps) for _ in range(AT_ONCE)]
        began = time.monotonic()
        done = [pool.submit(build, bench, source, "--builder", "kubernetes") for source in sources]
        over: set[str] = set()
        while not all(item.done() for item in done):
            over |= overloaded(bench.cluster)
            time.sleep(10)  # asking costs a small machine something, too
        row.ours.append((time.monotonic() - began) / perfect)
        for item in done:
            item.result()
        above.ours.append(len(over))
        theirs = [bench.source(steps) for _ in range(AT_ONCE)]
        began = time.monotonic()
        list(pool.map(lambda source: bench.peer.start(source.name, source, push=False), theirs))
        bench.peer.ended([source.name for source in theirs])
        row.peer.append((time.monotonic() - began) / perfect)
    bench.cluster.kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--wait=false")
    return [row, above]


def node_dies(bench: Bench) -> list[Row]:
    """Both sides build on the same node when it dies. Whoever began again before that was seen took no time."""
    row = Row("a node gone, seen, to the build's start elsewhere", 15.0)
    cluster = bench.cluster
    source, theirs = (bench.source(f"RUN sleep {GONE_SECONDS:.0f}; echo SALT") for _ in range(2))
    with ThreadPoolExecutor(4) as pool:
        done = pool.submit(build, bench, source, "--builder", "kubernetes")
        until(lambda: bool(workers(cluster)), "the build runs", 120)
        (name,) = workers(cluster)
        with only(cluster, name):
            bench.peer.start(theirs.name, theirs, job=True, push=False)
            until(lambda: bool(bench.peer.nodes(theirs.name)), "the peer's build runs", 120)
        cluster.kill_node(name)
        began = time.monotonic()
        try:
            seen = pool.submit(after, began, lambda: name not in cluster.ready_nodes())
            ours = pool.submit(after, began, lambda: bool(workers(cluster) - {name}))
            peer = pool.submit(after, began, lambda: bool(bench.peer.nodes(theirs.name) - {name}))
            say(f"    the node is seen as gone after {seen.result():.1f} s")
            row.ours.append(max(0.0, ours.result() - seen.result()))
            row.peer.append(max(0.0, peer.result() - seen.result()))
            done.result()
        finally:
            cluster.start_node(name)
    until(lambda: name in cluster.ready_nodes(), "the node is back", 120)
    cluster.kubectl("-n", NAMESPACE, "delete", "job", theirs.name, "--wait=false")
    return [row]


def after(began: float, is_so: Callable[[], bool]) -> float:
    """Seconds until it is, at most ``GONE_SECONDS``."""
    while not is_so() and time.monotonic() - began < GONE_SECONDS:
        time.sleep(0.5)
    return time.monotonic() - began


def workers(cluster: LocalCluster) -> set[str]:
    """Where a worker of a build runs."""
    found = cluster.get("pods", "--all-namespaces", "--selector=slipway/role=build-worker")
    return {pod["spec"]["nodeName"] for pod in found if pod["status"].get("phase") == "Running"}


def deliver(bench: Bench) -> list[Row]:
    row = Row("deliver: edit to serving", 10.0)
    source = write_app(bench.directory / "app", "first")
    bench.slipway.command("deliver", str(source))
    bench.peer.deliver(source, "first", first=True)
    for number in range(bench.runs):
        version = f"v{number}-{os.getpid()}"
        write_app(source, version)
        row.ours.append(
            serving(bench, "slipway-demo", version, lambda: bench.slipway.command("deliver", str(source)))
        )
        row.peer.append(serving(bench, NAMESPACE, version, lambda v=version: bench.peer.deliver(source, v)))  # type: ignore[misc]
    bench.slipway.command("app", "rm", "small", "--yes", ok=False)
    return [row]


def serving(bench: Bench, namespace: str, version: str, work: Callable[[], object]) -> float:
    address = bench.cluster.get("service", "web", f"--namespace={namespace}")["spec"]["clusterIP"]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        while True:
            said = bench.cluster.on_node("node-1", "sh", "-c", f"curl -s -m 2 http://{address}:8000/ || true")
            if version in said:
                break
            if running.done():
                running.result()
            time.sleep(0.05)
        seconds = time.monotonic() - began
        running.result()
    return seconds


def many_apps(bench: Bench) -> list[Row]:
    """What is there is applied once more by kubectl, as it is, and reconciled by a server: nothing is to be done."""
    return asyncio.run(_many_apps(bench))


async def _many_apps(bench: Bench) -> list[Row]:
    rows = [
        Row(f"{APPS} apps of 3 services, nothing to do, a new server", 5.0),
        Row("the same, API requests", 200),
        Row(f"{APPS} apps of 3 services, nothing to do, from then on", 5.0),
    ]
    directory = bench.directory / "apps"
    directory.mkdir()
    bench.cluster.import_image(busybox_image("slipway.test/busybox:1"))
    async with opened_bench(bench.cluster, "slipway.test/busybox:1", directory) as opened:
        apps = await opened.rest(APPS)
        objects = [item for ref, one in apps.items() for item in manifests(ref, one, opened.setting)]
        file = directory / "apps.yaml"
        file.write_text(yaml.safe_dump_all([namespace_manifest(opened.project, opened.namespace), *objects]))
        words = (
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=slipway",
            f"--filename={file}",
        )
        rows[0].peer.append(
            await asyncio.to_thread(timed, lambda: bench.cluster.kubectl(*words, seconds=600))
        )
        for row in (rows[0], rows[2]):
            began, sent = time.monotonic(), opened.client.requests
            await opened.deliverer.reconcile()
            row.ours.append(time.monotonic() - began)
            if row is rows[0]:
                rows[1].ours.append(opened.client.requests - sent)
            found = await opened.engine.sound(apps)
            if set(found) != set(apps):
                raise Failed(f"only {len(found)} of {APPS} apps were found as they should be")
    return rows


ROWS = {
    "cold": cold, "idle": idle, "overhead": overhead, "at-once": at_once, "node": node_dies, "deliver": deliver,
    "apps": many_apps,
}  # fmt: skip


RUNS = {"overhead": 3}  # with its peer, that takes a minute


def platform(
    cluster: LocalCluster, directory: Path, stack: ExitStack, *, with_peer: bool = False, **variables: str
) -> Running:
    """A server whose project ``demo`` is on the cluster; ``with_peer`` the peer has its image and a login there."""
    running = Running.make(directory)
    address = f"{cluster.host_address}:{running.api_port}"
    running.variables |= {
        "SLIPWAY_LISTEN": address, "SLIPWAY_BUILD_MEMORY": str(MEMORY), "SLIPWAY_BUILD_CPUS": str(CPUS),
        "SLIPWAY_BUILD_DISK": "4g", "SLIPWAY_KUBERNETES_BUILDS": str(room(cluster, ASKED)), **variables,
    }  # fmt: skip
    directory.mkdir()
    with phase("base images into a registry"):
        running.seed_base()
        running.seed_worker()
        if with_peer:
            running.seed("library/buildah", buildah_tar())
    stack.callback(running.down)
    with phase("a server"):
        running.up()
    cluster.trust_registry(address)
    running.command("cluster", "add", "bench", "--kubeconfig", str(cluster.kubeconfig))
    running.command("cluster", "bind", "bench", "--project", "demo")
    with phase("the worker's image"):
        running.command("builder", "image")
    if with_peer:
        running.add_member("bench", SECRET, "developer")
    return running


def prepare(bench: Bench) -> None:
    """Every node has both sides' images."""
    bench.peer.prepare()
    for name in sorted(bench.cluster.ready_nodes()):
        with phase(f"both sides' images on {name}"), only(bench.cluster, name):
            source = bench.source("RUN echo SALT")
            bench.peer.start(source.name, source, push=False)
            first_step(bench.slipway, source)
            bench.peer.wait([source.name], "BUILT", every=1)


def measured(name: str, bench: Bench) -> list[Row]:
    """What fails is a goal that is missed, and keeps no other row from being measured."""
    try:
        return ROWS[name](bench)
    except (Exception, SystemExit) as error:
        say(f"{name} failed: {error}")
        return [Row(f"{name}: failed", 0.0, [math.inf])]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", choices=ROWS, help="only this row; repeatable")
    parser.add_argument(
        "--runs", type=int, help="of rows that are not done once; 3 of overhead, 5 of the others"
    )
    chosen = parser.parse_args()
    rows: list[Row] = []
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        cluster = LocalCluster()
        if not cluster.is_running():
            stack.callback(cluster.down)
        with phase("the cluster"):
            cluster.up()
        (directory / "buildah").mkdir()
        with phase("buildah's store on this machine"):
            buildah = Buildah(directory / "buildah")
        running = platform(cluster, directory / "slipway", stack, with_peer=True)
        address = f"{cluster.host_address}:{running.api_port}"
        peer = ByHand(cluster, address, "bench", SECRET, buildah, ASKED)
        stack.callback(peer.remove)
        bench = Bench(directory, cluster, running, peer)
        prepare(bench)
        for name in chosen.row or ROWS:
            bench.runs = chosen.runs or RUNS.get(name, 5)
            with phase(name):
                for row in measured(name, bench):
                    rows.append(row)
                    say(row)
    print(f"{'row':56} {'peer':>8} {'ours':>8} {'ratio':>6} {'goal':>6}")
    for row in rows:
        print(row)
    if not chosen.row:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
    print(f"{sum(row.met for row in rows)} of {len(rows)} goals met")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
