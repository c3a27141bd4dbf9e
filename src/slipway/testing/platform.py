"""A whole platform of a test's own: its data, its ports, its address range; driven by the command line."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.access import Access
from slipway.app.settings import load
from slipway.app.stores import open_content, open_database
from slipway.base.clock import iso, now
from slipway.content import ContentStore, LocalStore
from slipway.errors import Conflict
from slipway.layers import Layer, import_tar
from slipway.oci import ImageConfig, Platform
from slipway.registry import Registry
from slipway.testing.sandboxes import debian_tar, platform_tar, worker_tar

COMMAND_SECONDS = 180
# A web server that needs nothing but the perl of Debian's smallest root.
APP = """\
use strict; use IO::Socket::INET; $| = 1;
my $server = IO::Socket::INET->new(LocalPort => 8000, Listen => 128, ReuseAddr => 1) or die "no port: $!";
$SIG{TERM} = sub { exit 0 };
print "listening\\n";
while (my $client = $server->accept) {
    while (my $line = <$client>) { last if $line =~ /^\\r?\\n$/ }
    my $body = "version VERSION\\n";
    print $client "HTTP/1.1 200 OK\\r\\nContent-Length: " . length($body) . "\\r\\nConnection: close\\r\\n\\r\\n$body";
    close $client;
}
"""
DOCKERFILE = """\
FROM debian:bookworm
RUN mkdir /srv/app && seq 1 2000 > /srv/app/numbers
COPY app.pl /srv/app/
RUN wc -l /srv/app/app.pl > /srv/app/lines
CMD ["perl", "/srv/app/app.pl"]
"""
COMPOSE = """\
name: small
services:
  web:
    build: .
    ports: ["8000"]
    restart: unless-stopped
    stop_grace_period: 3s
"""


_PORTS = range(20_000, 30_000)  # the kernel gives none of these to a socket that asks for any
_layers: dict[Path, tuple[Layer, Path]] = {}
_pools = itertools.cycle(random.sample(range(100, 200), 100))  # two that run at a time have different ones


def free_port() -> int:
    """A port of this network namespace for a server to come, given to nobody else while this process runs."""
    for port in random.sample(_PORTS, len(_PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            try:
                claim.bind(f"\0slipway-test-port-{port}")  # gone with the process, however that ends
                probe.bind(("", port))
            except OSError as error:
                claim.close()
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        claim.detach()  # it stays open
        return port
    raise AssertionError("all ports are in use")


@dataclass(slots=True)
class Running:
    """The platform below ``directory``. ``command`` runs the command line against it."""

    directory: Path
    api_port: int
    apps_port: int
    pool: str
    marks: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, directory: Path) -> Running:
        return cls(directory, free_port(), free_port(), f"10.{next(_pools)}.")

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def environment(self) -> dict[str, str]:
        run = self.directory / "run"
        return os.environ | {
            "SLIPWAY_DATA": str(self.data),
            "SLIPWAY_RUN": str(run),
            "SLIPWAY_LISTEN": f"127.0.0.1:{self.api_port}",
            "SLIPWAY_APPS_LISTEN": f"127.0.0.1:{self.apps_port}",
            "SLIPWAY_NETWORK_POOL": f"{self.pool}0.0/16",
            "SLIPWAY_SERVER": f"unix://{run}/slipway.sock",
            **self.variables,
        }

    def start_command(self, *words: str) -> subprocess.Popen[bytes]:
        """The command with its standard input open, for those that read a secret."""
        return subprocess.Popen(
            [sys.executable, "-m", "slipway.cli", *words],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE,
        )  # fmt: skip

    def command(
        self, *words: str, ok: bool = True, seconds: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[bytes]:
        with self.start_command(*words) as process:
            out, err = process.communicate(timeout=seconds)
        done = subprocess.CompletedProcess(words, process.returncode, out, err)
        if ok and done.returncode:
            raise AssertionError(
                f"slipway {' '.join(words)}: {done.returncode}\n{out.decode()}\n{err.decode()}"
            )
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.command("--output", "json", *words).stdout)

    @property
    def host(self) -> str:
        """The registry's name, as clients write it."""
        return f"127.0.0.1:{self.api_port}"

    @property
    def registry(self) -> str:
        """Its name, as the nodes of clusters write it."""
        found = self.environment
        return found.get("SLIPWAY_KUBERNETES_REGISTRY") or found["SLIPWAY_LISTEN"]

    def up(self) -> None:
        self.command("up")

    def down(self) -> None:
        self.mark()
        self.command("down", "--all")

    def mark(self) -> None:
        """Remember what names this platform gave to things outside its directory."""
        self.marks |= {str(self.directory), self.pool}
        for path in self.data.glob("networks/*.json"):
            self.marks.add(json.loads(path.read_text())["bridge"])
        self.marks |= {path.name for path in self.data.glob("containers/*")}
        self.marks |= {path.stem for path in self.data.glob("builds/*.jsonl")}

    def traces(self) -> set[str]:
        """What is left of this platform on the machine."""
        return {line for line in footprint() if any(mark in line for mark in self.marks)}

    def kill(self) -> None:
        """As the kernel's OOM killer would."""
        pid = int((self.directory / "run" / "slipway.pid").read_text())
        os.kill(pid, signal.SIGKILL)

    def get(self, host: str) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.apps_port}/", headers={"Host": host})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def get_when_ready(self, host: str, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while True:
            try:
                return self.get(host)
            except (OSError, urllib.error.URLError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def seed_base(self) -> None:
        """Put a small Debian into the registry as ``library/debian:bookworm``, before the server starts."""
        asyncio.run(self._seed("library/debian", debian_tar()))

    def seed_worker(self) -> None:
        """Put the Debian that workers in Pods stand on there, so that a test needs no package mirror for it."""
        self.seed("library/slipway-worker-base", worker_tar())

    def seed_platform(self) -> None:
        """What ``slipway install image`` needs of a package mirror."""
        self.seed_worker()
        self.seed("library/slipway-base", platform_tar())

    def seed(self, repository: str, archive: Path) -> None:
        """An image of one layer, tagged ``bookworm``, before the server starts."""
        asyncio.run(self._seed(repository, archive))

    def add_member(self, name: str, password: str, role: str) -> None:
        """A user of the platform with a role in the project ``demo``."""
        with self.start_command("user", "create", name, "--password-stdin") as process:
            process.communicate(f"{password}\n".encode())
        assert process.returncode == 0, name
        self.command("project", "add", "demo", name, "--role", role)

    @contextmanager
    def acting_as(self, name: str, password: str, home: Path) -> Iterator[None]:
        """Commands are of a user who has logged in over TCP, and not of root on the socket."""
        before, server = dict(self.variables), f"http://127.0.0.1:{self.api_port}"
        self.variables |= {"SLIPWAY_SERVER": server, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
        try:
            with self.start_command("login", server, "-u", name, "--password-stdin") as login:
                out, err = login.communicate(f"{password}\n".encode())
            assert b"logged in" in out, err
            yield
        finally:
            self.variables = before

    async def _seed(self, repository: str, archive: Path) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        settings = load(None, self.environment)
        database, blobs = open_database(settings), open_content(settings)
        await database.migrate()
        with suppress(Conflict):
            await Access(database, settings.keys).create_project("library", public=True)
        layer = _layer(blobs, archive)
        config = ImageConfig(Platform.host(), (layer.diff_id,), {"Cmd": ["bash"]}, created=iso(now()))
        await Registry(database, blobs).store_image(repository, ["bookworm"], config, [layer.descriptor])
        await database.dispose()


def _layer(blobs: ContentStore, archive: Path) -> Layer:
    """``archive`` as a layer; compressed once, as most platforms of a test run begin with the same."""
    if (known := _layers.get(archive)) and known[1].exists():
        blobs.put(known[1].read_bytes())
        return known[0]
    with archive.open("rb") as stream:
        made = import_tar(blobs, stream)
    if isinstance(blobs, LocalStore):
        _layers[archive] = made, blobs.path(made.descriptor.digest)
    return made


def write_app(directory: Path, version: str) -> Path:
    """The sources of a small app whose answers name ``version``."""
    directory.mkdir(exist_ok=True)
    (directory / "app.pl").write_text(APP.replace("VERSION", version))
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "compose.yaml").write_text(COMPOSE)
    return directory


def footprint() -> set[str]:
    """Everything on this machine that a platform could leave behind: processes, mounts, links, rules, groups."""
    found: set[str] = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        found.add("mount " + line.split(" ")[4])
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z" and any(
                word in command for word in ("conmon", "haproxy", "aardvark", "slipway", "runc ")
            ):
                found.add(f"process {entry.name} {command}")
    for words in (["ip", "-o", "link"], ["iptables-save"], ["ip", "route"]):
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found.update(line.split(" qdisc")[0] for line in text.splitlines() if not line.startswith(("#", ":")))
    for root in Path("/sys/fs/cgroup").rglob("slipway*"):
        found.add(f"group {root}")
    return found
