"""Edit to serving: one changed line, next to Docker on the same machine, in the same run.

Both sides have the same sources, a base image in place and everything built once. Then, in turn, a line of the web
app is changed and the time taken until a request through the published address shows it:

* Docker: `docker build` (BuildKit) → `docker push` to docker-registry → `docker pull` → `docker stop` of the old
  container, `docker run` of the new one (what `docker compose up --build` with a registry does).
* Slipway: `slipway deliver`.

Both are polled from the moment the command starts until the new line answers.

    make bench-deliver
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from slipway.testing.peers import Docker, scratch, start_registry
from slipway.testing.platform import Running, free_port, write_app

ROUNDS = 5
GOAL = 0.5
HOST = "web.small.demo.localhost"
RESULTS = Path(__file__).parent / "results"


def deliver_by_docker(docker: Docker, registry: int, port: int, source: Path, version: str) -> None:
    image = f"127.0.0.1:{registry}/small-web:{version}"
    docker.build(source, image)
    docker.push(image)
    docker.run("pull", "-q", image)
    docker.run("stop", "small-web", check=False)
    docker.run("rm", "small-web", check=False)
    docker.run("run", "-d", "--name", "small-web", "-p", f"127.0.0.1:{port}:8000", image)


def answer(port: int, host: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=2) as response:
        text: str = response.read().decode()
        return text


def until(port: int, host: str, version: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if answer(port, host) == f"version {version}\n":
                return
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"version {version} did not appear on port {port} for {host}")


def timed(deliver: Callable[[], object], port: int, host: str, version: str) -> float:
    """Seconds from the start of ``deliver`` until a request sees the new version; it is let finish before returning."""
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(deliver)
        try:
            until(port, host, version)
        except TimeoutError:
            running.result()
            raise
        seconds = time.monotonic() - began
        running.result()
    return seconds


def measure() -> tuple[list[float], list[float]]:
    theirs: list[float] = []
    ours: list[float] = []
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        source = write_app(directory / "app", "first")
        (directory / "docker").mkdir()
        docker, registry, port = (
            Docker(directory / "docker", stack),
            start_registry(directory, stack),
            free_port(),
        )
        slipway = Running.make(directory / "slipway")
        slipway.seed_base()
        stack.callback(slipway.down)
        slipway.up()
        deliver_by_docker(docker, registry, port, source, "first")
        slipway.command("deliver", str(source))
        until(port, "localhost", "first")
        until(slipway.apps_port, HOST, "first")
        for number in range(ROUNDS):
            version = f"a{number}"
            write_app(source, version)
            work = partial(deliver_by_docker, docker, registry, port, source, version)
            theirs.append(timed(work, port, "localhost", version))
            ours.append(
                timed(lambda: slipway.command("deliver", str(source)), slipway.apps_port, HOST, version)
            )
        docker.run("rm", "-f", "small-web", check=False)
    return theirs, ours


def main() -> int:
    theirs, ours = measure()
    peer, mine = statistics.median(theirs), statistics.median(ours)
    met = mine / peer <= GOAL
    print(f"{'row':24} {'docker':>8} {'slipway':>8} {'ratio':>6} {'goal':>6}")
    verdict = "met" if met else "missed"
    print(f"{'edit to serving':24} {peer:7.2f}s {mine:7.2f}s {mine / peer:6.2f} {GOAL:6.2f}  {verdict}")
    print(f"docker  {[round(value, 2) for value in theirs]}\nslipway {[round(value, 2) for value in ours]}")
    record = {"docker": theirs, "slipway": ours, "ratio": mine / peer, "goal": GOAL}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "deliver.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{int(met)} of 1 goals met")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
