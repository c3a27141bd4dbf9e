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
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from slipway.testing.platform import Running, free_port, write_app
from slipway.testing.sandboxes import debian_tar

ROUNDS = 5
GOAL = 0.5
HOST = "web.small.demo.localhost"
RESULTS = Path(__file__).parent / "results"


class Docker:
    """A dockerd and a docker-registry of the benchmark's own."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.registry, self.port = free_port(), free_port()
        self._stack = stack

    def start(self) -> None:
        daemon = [
            "dockerd", "--data-root", str(self.directory / "data"), "--exec-root", str(self.directory / "exec"),
            "-H", f"unix://{self.socket}", "-p", str(self.directory / "pid"), "--containerd-namespace", "bench",
            "--bip", "10.92.0.1/24", "--storage-driver", "overlay2",
        ]  # fmt: skip
        self._spawn(daemon, "dockerd.log")
        config = self.directory / "registry.yml"
        config.write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {self.directory}/registry}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.registry}'}}\n"
        )
        self._spawn(["docker-registry", "serve", str(config)], "registry.log")
        for _ in range(300):
            if self.run("info", check=False).returncode == 0:
                break
            time.sleep(0.1)
        with debian_tar().open("rb") as stream:
            words = [*self._docker, "import", "-", "debian:bookworm"]
            subprocess.run(words, stdin=stream, check=True, capture_output=True)

    def _spawn(self, argv: list[str], log: str) -> None:
        with (self.directory / log).open("wb") as handle:
            process = subprocess.Popen(argv, stdout=handle, stderr=handle, start_new_session=True)
        self._stack.callback(process.wait, 30)
        self._stack.callback(process.terminate)

    @property
    def _docker(self) -> list[str]:
        return ["/usr/bin/docker", "-H", f"unix://{self.socket}"]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        env = os.environ | {"DOCKER_BUILDKIT": "1"}
        done = subprocess.run([*self._docker, *words], capture_output=True, env=env, check=False)
        if check and done.returncode:
            raise SystemExit(f"docker {' '.join(words)} failed:\n{done.stderr.decode()}")
        return done

    def deliver(self, source: Path, version: str) -> None:
        image = f"127.0.0.1:{self.registry}/small-web:{version}"
        self.run("build", "-q", "-t", image, str(source))
        self.run("push", "-q", image)
        self.run("pull", "-q", image)
        self.run("stop", "small-web", check=False)
        self.run("rm", "small-web", check=False)
        self.run("run", "-d", "--name", "small-web", "-p", f"127.0.0.1:{self.port}:8000", image)


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
        directory = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory, True)
        source = write_app(directory / "app", "first")
        docker = Docker(directory / "docker", stack)
        (directory / "docker").mkdir()
        docker.start()
        slipway = Running.make(directory / "slipway")
        slipway.seed_base()
        stack.callback(slipway.down)
        slipway.up()
        docker.deliver(source, "first")
        slipway.command("deliver", str(source))
        until(docker.port, "localhost", "first")
        until(slipway.apps_port, HOST, "first")
        for number in range(ROUNDS):
            version = f"a{number}"
            write_app(source, version)
            theirs.append(timed(lambda: docker.deliver(source, version), docker.port, "localhost", version))  # noqa: B023
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
