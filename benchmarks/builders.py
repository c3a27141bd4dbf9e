"""The four builders next to each other: how long the smallest build takes, and until its first step begins.

Run as root: ``make bench-builders``. Prints a table and saves it as ``benchmarks/results/builders.json``.
Where the test cluster is up (``python -m slipway.testing.kubernetes up``), those in Pods are measured as well, with
their images on all nodes. docs/builders.md says what each isolates and leaves behind.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from slipway.testing.busybox import BUSYBOX
from slipway.testing.daemons import add_builders, docker_daemon
from slipway.testing.kubernetes import LocalCluster
from slipway.testing.kubernetes_builds import PROJECT, building_platform, only
from slipway.testing.peers import scratch
from slipway.testing.platform import Running
from slipway.testing.sandboxes import docker_tar

RUNS = 5
RESULTS = Path(__file__).parent / "results" / "builders.json"
DOCKERFILE = 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "true"]\n'
BUILDERS = ("", "socket", "remote", "dind")


def main() -> None:
    rows = []
    with scratch() as directory, docker_daemon() as daemon:
        platform = Running.make(directory / "platform")
        platform.directory.mkdir()
        platform.up()
        try:
            add_builders(platform, daemon)
            source = directory / "source"
            source.mkdir()
            shutil.copy(BUSYBOX, source / "busybox")
            (source / "Dockerfile").write_text(DOCKERFILE)
            rows += [_row(platform, source, name, name or "slipway") for name in BUILDERS]
        finally:
            platform.down()
        cluster = LocalCluster()
        if cluster.is_running():
            images = {"library/slipway-docker": docker_tar()}
            with building_platform(cluster, directory / "pods", images) as platform:
                platform.command("builder", "add", "inner", "dind", "--cluster", "test", "--project", PROJECT)
                for name, shown in (("kubernetes", "Pod"), ("inner", "dind, Pod")):
                    for node in cluster.nodes:
                        with only(cluster, node):
                            _measure(platform, source, name)
                    rows.append(_row(platform, source, name, shown))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def _row(platform: Running, source: Path, name: str, shown: str) -> dict[str, Any]:
    runs = [_measure(platform, source, name) for _ in range(RUNS)]
    first, whole = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"{shown:10} first step {first:6.2f} s   whole build {whole:6.2f} s", flush=True)
    return {"builder": shown, "first_step": round(first, 3), "whole": round(whole, 3)}


def _measure(platform: Running, source: Path, builder: str) -> tuple[float, float]:
    """Seconds until the first step began, and to the end, with an empty cache."""
    words = ["--output", "json", "build", str(source), "-t", "x", "--no-cache"]
    words += ["--builder", builder] if builder else []
    began, first = time.monotonic(), 0.0
    with platform.start_command(*words) as process:
        assert process.stdout is not None
        last = b""
        for line in process.stdout:
            last = line
            if not first and json.loads(line)["event"] == "build.step.start":
                first = time.monotonic() - began
        if process.wait():
            raise SystemExit(f"the build by {builder or 'slipway'} failed: {last.decode()}")
    return first, time.monotonic() - began


if __name__ == "__main__":
    main()
