"""The tools that Slipway is measured against, each started for one benchmark and gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from slipway.testing.platform import free_port
from slipway.testing.sandboxes import debian_tar

BASE = "debian:bookworm"


def spawn(stack: ExitStack, argv: list[str], log: Path) -> int:
    """Start a server that ends with ``stack``; its process id."""
    with log.open("wb") as handle:
        process = subprocess.Popen(argv, stdout=handle, stderr=handle, start_new_session=True)
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    return process.pid


def call(argv: list[str], *, env: dict[str, str] | None = None, check: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, env=os.environ | (env or {}), check=False)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode(errors="replace")


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory on disk for the length of the block."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
    try:
        yield directory
    finally:
        for target in _mounted_below(directory):  # buildah leaves its own behind when it is interrupted
            call(["umount", "-l", target], check=False)
        shutil.rmtree(directory, True)


def _mounted_below(directory: Path) -> list[str]:
    """The mount points in ``directory``, the innermost first."""
    targets = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [target for target in reversed(targets) if target.startswith(f"{directory}/")]


def start_registry(directory: Path, stack: ExitStack) -> int:
    """Debian's docker-registry; its port."""
    port = free_port()
    config = directory / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    spawn(stack, ["docker-registry", "serve", str(config)], directory / "registry.log")
    return port


class Docker:
    """A dockerd of the benchmark's own, with BuildKit, and the base image in it."""

    def __init__(self, directory: Path, stack: ExitStack, *flags: str) -> None:
        self.socket = directory / "docker.sock"
        spawn(
            stack,
            [
                "dockerd", "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec"),
                "-H", f"unix://{self.socket}", "-p", str(directory / "pid"), "--containerd-namespace", "bench",
                "--bip", "10.92.0.1/24", "--storage-driver", "overlay2", *flags,
            ],
            directory / "dockerd.log",
        )  # fmt: skip
        for _ in range(1200):
            if self.run("info", "-f", "{{.ServerVersion}}", check=False).strip():
                break
            time.sleep(0.1)
        call(["sh", "-c", f'exec "$@" < {debian_tar()}', "sh", *self._words, "import", "-", BASE])

    @property
    def _words(self) -> list[str]:
        return ["/usr/bin/docker", "-H", f"unix://{self.socket}"]

    def run(self, *words: str, check: bool = True) -> str:
        return call([*self._words, *words], env={"DOCKER_BUILDKIT": "1"}, check=check)

    def build(self, source: Path, tag: str) -> None:
        self.run("build", "-q", "-t", tag, str(source))

    def push(self, tag: str) -> None:
        self.run("push", "-q", tag)


class Buildah:
    """buildah with a store of the benchmark's own, and the base image in it."""

    def __init__(self, directory: Path) -> None:
        self._words = ["buildah", "--root", str(directory / "root"), "--runroot", str(directory / "run")]
        made = call([*self._words, "from", "scratch"]).strip()
        call([*self._words, "add", made, str(debian_tar()), "/"])
        call([*self._words, "commit", "-q", made, BASE])
        call([*self._words, "rm", made])

    def build(self, source: Path, tag: str) -> None:
        call(
            [*self._words, "bud", "--layers", "-q", "--pull-never", "--runtime=runc", "-t", tag, str(source)]
        )

    def push(self, tag: str, creds: str = "") -> None:
        login = [f"--creds={creds}"] if creds else []
        call([*self._words, "push", "-q", "--tls-verify=false", *login, tag, f"docker://{tag}"])
