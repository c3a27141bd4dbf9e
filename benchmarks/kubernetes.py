"""Builds as Pods and apps on a cluster, beside what is done with kubectl, on the same cluster in the same run.

    make bench-kubernetes
    .venv/bin/python benchmarks/kubernetes.py --row deliver --runs 1

The peers: a build is a privileged Pod of buildah's, made with kubectl and asked about every 20 s; a delivery is a build
and a push on this machine, `kubectl set image` and `kubectl rollout status`; many apps are `kubectl apply`.
The goals are seconds, or what the title says; the ratio says how much of the peer's time ours took.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slipway.delivery import AppRef
from slipway.engines.kubernetes import manifests, namespace_manifest
from slipway.testing.kubernetes import LocalCluster, busybox_image
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_apps import opened_bench, resting_app
from slipway.testing.peers import BASE, Buildah, scratch
from slipway.testing.platform import Running, write_app
from slipway.testing.sandboxes import buildah_tar

RESULTS = Path(__file__).parent / "results" / "kubernetes.json"
SECRET = "correct horse"
NAMESPACE = "bench-peer"
POLL_SECONDS = 20
AT_ONCE, STEP_SECONDS = 30, 20
APPS = 500


@dataclass(slots=True)
class Bench:
    directory: Path
    cluster: LocalCluster
    slipway: Running
    buildah: Buildah
    runs: int
    count: int = 0

    @property
    def registry(self) -> str:
        return f"{self.cluster.host_address}:{self.slipway.api_port}"

    def source(self, steps: str) -> Path:
        """A new context, whose every step is new."""
        self.count += 1
        found = self.directory / f"source{self.count}"
        found.mkdir()
        text = f"FROM {BASE}\nLABEL salt={self.count}-{os.getpid()}\n{steps}\n"
        (found / "Dockerfile").write_text(text.replace("SALT", f"{self.count}-{os.getpid()}"))
        return found


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

    def __str__(self) -> str:
        mine = statistics.median(self.ours)
        theirs = statistics.median(self.peer) if self.peer else 0
        shown = (f"{theirs:8.2f}", f"{mine / theirs:6.2f}") if theirs else ("       -", "     -")
        verdict = "met" if self.met else "missed"
        return f"{self.title:52} {shown[0]} {mine:8.2f} {shown[1]} {self.goal:6.2f}  {verdict}"


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def build(bench: Bench, source: Path, *words: str) -> None:
    bench.slipway.command("build", str(source), "-t", "bench", *words)


def first_step(running: Running, source: Path) -> float:
    """From the command's start until its first step has begun in a Pod."""
    began = time.monotonic()
    words = ("--output", "json", "build", str(source), "-t", "bench", "--builder", "kubernetes")
    process = running.start_command(*words)
    assert process.stdout is not None
    found = 0.0
    for line in process.stdout:
        if not found and json.loads(line).get("event") == "build.step.start":
            found = time.monotonic() - began
    if process.wait() or not found:
        raise SystemExit(f"a build in a Pod failed: {process.communicate()[1].decode()[-2000:]}")
    return found


def peer_build(bench: Bench, source: Path, word: str) -> float:
    """By kubectl and a Pod of buildah's; asked about every 20 s until its log has ``word``."""
    kubectl, name = bench.cluster.kubectl, f"build{bench.count}"
    began = time.monotonic()
    kubectl("-n", NAMESPACE, "create", "configmap", name, f"--from-file={source / 'Dockerfile'}")
    script = (
        f"buildah --storage-driver=overlay --root=/work/root --runroot=/work/run bud --isolation=chroot "
        f"--tls-verify=false --creds=bench:'{SECRET}' -t {bench.registry}/demo/peer:1 /context && "
        f"buildah --storage-driver=overlay --root=/work/root --runroot=/work/run push --tls-verify=false "
        f"--creds=bench:'{SECRET}' {bench.registry}/demo/peer:1 && echo PUSHED"
    )
    container = {
        "name": "build", "image": f"{bench.registry}/library/buildah:bookworm", "command": ["sh", "-c", script],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": "context", "mountPath": "/context"}, {"name": "work", "mountPath": "/work"}],
    }  # fmt: skip
    volumes = [{"name": "context", "configMap": {"name": name}}, {"name": "work", "emptyDir": {}}]
    bench.cluster.apply(
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes},
        }
    )  # fmt: skip
    said = ""
    while word not in said:
        time.sleep(POLL_SECONDS)
        said = kubectl("-n", NAMESPACE, "logs", name, ok=False)
        if time.monotonic() - began > 300:
            raise SystemExit(f"the peer's build does not end: {said[-2000:]}")
    seconds = time.monotonic() - began
    kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
    return seconds


def cold(bench: Bench) -> list[Row]:
    row = Row("submit to first step, a fresh Pod", 2.5)
    for _ in range(bench.runs):
        source = bench.source("RUN echo SALT")
        row.ours.append(first_step(bench.slipway, source))
        row.peer.append(peer_build(bench, source, "STEP"))
    return [row]


def idle(bench: Bench) -> list[Row]:
    """By a second server, which keeps a worker ready."""
    row = Row("submit to first step, an idle worker", 0.3)
    with ExitStack() as stack:
        running = platform(
            bench.cluster, bench.directory / "idle", stack, SLIPWAY_KUBERNETES_IDLE_WORKERS="1"
        )
        first_step(running, bench.source("RUN echo SALT"))
        for _ in range(bench.runs):
            time.sleep(12)  # the next worker comes in
            row.ours.append(first_step(running, bench.source("RUN echo SALT")))
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
        by_hand = timed(lambda source=peer: bench.buildah.build(source, "bench"))  # type: ignore[misc]
        more.peer.append(peer_build(bench, peer, "PUSHED") - by_hand)
    return [more, again]


def at_once(bench: Bench) -> list[Row]:
    row = Row(f"{AT_ONCE} builds at once, times of perfect packing", 1.3)
    above = Row("nodes above their limits meanwhile", 0)
    sources = [bench.source(f"RUN sleep {STEP_SECONDS}; echo SALT") for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        began = time.monotonic()
        done = [pool.submit(build, bench, source, "--builder", "kubernetes") for source in sources]
        over: set[str] = set()
        while not all(item.done() for item in done):
            over |= overloaded(bench.cluster)
            time.sleep(2)
        for item in done:
            item.result()
        row.ours.append((time.monotonic() - began) / STEP_SECONDS)
    above.ours.append(len(over))
    return [row, above]


def overloaded(cluster: LocalCluster) -> set[str]:
    """Nodes whose Pods ask for more memory than they have, or that say they are under pressure."""
    asked: dict[str, float] = {}
    for pod in cluster.get("pods", "--all-namespaces"):
        for container in pod["spec"]["containers"]:
            text = container.get("resources", {}).get("requests", {}).get("memory", "0")
            name = pod["spec"].get("nodeName", "")
            asked[name] = asked.get(name, 0) + _bytes(text)
    return {
        node["metadata"]["name"]
        for node in cluster.get("nodes")
        if asked.get(node["metadata"]["name"], 0) > _bytes(node["status"]["allocatable"]["memory"])
        or any(
            item["type"].endswith("Pressure") and item["status"] == "True"
            for item in node["status"]["conditions"]
        )
    }


def _bytes(text: str) -> float:
    for unit, factor in (
        ("Ki", 2**10),
        ("Mi", 2**20),
        ("Gi", 2**30),
        ("k", 10**3),
        ("M", 10**6),
        ("G", 10**9),
    ):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def node_dies(bench: Bench) -> list[Row]:
    row = Row("a node gone, seen, to the build's start elsewhere", 15.0)
    source = bench.source("RUN sleep 25; echo SALT")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(build, bench, source, "--builder", "kubernetes")
        until(lambda: bool(workers(bench.cluster)), "the build runs", 60)
        (name,) = workers(bench.cluster)
        time.sleep(3)
        bench.cluster.kill_node(name)
        try:
            until(lambda: name not in bench.cluster.ready_nodes(), "the node is seen as gone", 60)
            seen = time.monotonic()
            until(lambda: bool(workers(bench.cluster) - {name}), "the build runs elsewhere", 120)
            row.ours.append(time.monotonic() - seen)
            done.result()
        finally:
            bench.cluster.start_node(name)
    until(lambda: name in bench.cluster.ready_nodes(), "the node is back", 120)
    return [row]


def workers(cluster: LocalCluster) -> set[str]:
    """Where a worker of a build runs."""
    found = cluster.get("pods", "--all-namespaces", "--selector=slipway/role=build-worker")
    return {pod["spec"]["nodeName"] for pod in found if pod["status"].get("phase") == "Running"}


def deliver(bench: Bench) -> list[Row]:
    row = Row("deliver: edit to serving", 10.0)
    source = write_app(bench.directory / "app", "first")
    bench.slipway.command("deliver", str(source))
    peer_app(bench, source, "first")
    for number in range(bench.runs):
        version = f"v{number}-{os.getpid()}"
        write_app(source, version)
        row.ours.append(
            serving(bench, "slipway-demo", version, lambda: bench.slipway.command("deliver", str(source)))
        )
        row.peer.append(serving(bench, NAMESPACE, version, lambda v=version: peer_app(bench, source, v)))  # type: ignore[misc]
    bench.slipway.command("app", "rm", "small", "--yes", ok=False)
    return [row]


def peer_app(bench: Bench, source: Path, version: str) -> None:
    image = f"{bench.registry}/demo/peer-app:{version}"
    bench.buildah.build(source, image)
    bench.buildah.push(image, creds=f"bench:{SECRET}")
    kubectl = bench.cluster.kubectl
    if version == "first":
        kubectl("-n", NAMESPACE, "create", "deployment", "web", f"--image={image}", "--port=8000")
        kubectl("-n", NAMESPACE, "expose", "deployment", "web", "--port=8000")
        pull = json.dumps({"spec": {"template": {"spec": {"imagePullSecrets": [{"name": "pull"}]}}}})
        kubectl("-n", NAMESPACE, "patch", "deployment", "web", "-p", pull)
    else:
        kubectl("-n", NAMESPACE, "set", "image", "deployment/web", f"*={image}")
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=120s", seconds=130)


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
    """The manifests are applied by kubectl, and then looked at by both: nothing is to be done."""
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
        apps = {
            AppRef(opened.project, f"app{number}"): resting_app(opened.image, number)
            for number in range(APPS)
        }
        objects = [item for ref, one in apps.items() for item in manifests(ref, one, opened.setting)]
        file = directory / "apps.yaml"
        file.write_text(yaml.safe_dump_all([namespace_manifest(opened.project, opened.namespace), *objects]))
        places = asyncio.Semaphore(16)

        async def apply(item: dict[str, Any]) -> None:
            async with places:
                await opened.client.apply(item)

        await opened.client.apply(namespace_manifest(opened.project, opened.namespace))
        await asyncio.gather(*map(apply, objects))
        words = ("apply", "--server-side", "--force-conflicts", "--field-manager=peer", f"--filename={file}")
        rows[0].peer.append(
            await asyncio.to_thread(timed, lambda: bench.cluster.kubectl(*words, seconds=600))
        )
        for row in (rows[0], rows[2]):
            began, sent = time.monotonic(), opened.client.requests
            found = await opened.engine.sound(apps)
            row.ours.append(time.monotonic() - began)
            if row is rows[0]:
                rows[1].ours.append(opened.client.requests - sent)
            if set(found) != set(apps):
                raise SystemExit(f"only {len(found)} of {APPS} apps were found as they should be")
    return rows


ROWS = {
    "cold": cold, "idle": idle, "overhead": overhead, "at-once": at_once, "node": node_dies, "deliver": deliver,
    "apps": many_apps,
}  # fmt: skip


def platform(cluster: LocalCluster, directory: Path, stack: ExitStack, **variables: str) -> Running:
    """A server whose project ``demo`` is on the cluster, with the peer's image in its registry."""
    running = Running.make(directory)
    address = f"{cluster.host_address}:{running.api_port}"
    running.variables |= {
        "SLIPWAY_LISTEN": address, "SLIPWAY_BUILD_MEMORY": "256m", "SLIPWAY_BUILD_CPUS": "1",
        "SLIPWAY_BUILD_DISK": "4g", "SLIPWAY_KUBERNETES_BUILDS": str(AT_ONCE), **variables,
    }  # fmt: skip
    directory.mkdir()
    running.seed_base()
    running.seed_worker()
    running.seed("library/buildah", buildah_tar())
    stack.callback(running.down)
    running.up()
    cluster.trust_registry(address)
    running.command("cluster", "add", "bench", "--kubeconfig", str(cluster.kubeconfig))
    running.command("cluster", "bind", "bench", "--project", "demo")
    running.start_command("user", "create", "bench", "--password-stdin").communicate(f"{SECRET}\n".encode())
    running.command("project", "add", "demo", "bench", "--role", "developer")
    return running


def prepare(bench: Bench) -> None:
    """What the peer needs on the cluster; and every node has both sides' images."""
    kubectl = bench.cluster.kubectl
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", seconds=120)
    kubectl("create", "namespace", NAMESPACE)
    word = base64.b64encode(f"bench:{SECRET}".encode()).decode()
    login = json.dumps({"auths": {bench.registry: {"auth": word}}})
    kubectl(
        "-n", NAMESPACE, "create", "secret", "generic", "pull", "--type=kubernetes.io/dockerconfigjson",
        f"--from-literal=.dockerconfigjson={login}",
    )  # fmt: skip
    for name in bench.cluster.nodes:
        others = [item for item in bench.cluster.nodes if item != name]
        for item in others:
            kubectl("cordon", item)
        first_step(bench.slipway, bench.source("RUN echo SALT"))
        peer_build(bench, bench.source("RUN echo SALT"), "STEP")
        for item in others:
            kubectl("uncordon", item)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", choices=ROWS, help="only this row; repeatable")
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    rows: list[Row] = []
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        cluster = LocalCluster()
        if not cluster.is_running():
            stack.callback(cluster.down)
        cluster.up()
        (directory / "buildah").mkdir()
        running = platform(cluster, directory / "slipway", stack)
        bench = Bench(directory, cluster, running, Buildah(directory / "buildah"), chosen.runs)
        stack.callback(
            cluster.kubectl, "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"
        )
        prepare(bench)
        for name in chosen.row or ROWS:
            print(f"  {name} …", file=sys.stderr, flush=True)
            rows += ROWS[name](bench)
    print(f"{'row':52} {'peer':>8} {'ours':>8} {'ratio':>6} {'goal':>6}")
    for row in rows:
        print(row)
    if not chosen.row:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"{sum(row.met for row in rows)} of {len(rows)} goals met")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
