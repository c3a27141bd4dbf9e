"""Two registry processes for a test, over one PostgreSQL and one bucket behind a server that can be made to fail."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.access import Access
from slipway.access.roles import Role
from slipway.state import Database
from slipway.testing.faults import Faults, faulty
from slipway.testing.platform import free_port
from slipway.testing.postgres import Postgres, postgres
from slipway.testing.swift import swift

SECRET = "correct horse"
LOGIN = {"Authorization": "Basic " + b64encode(f"dev:{SECRET}".encode()).decode()}
MEBIBYTE = 1 << 20


@dataclass(slots=True)
class Server:
    """One process, on a host of its own as far as it can tell."""

    directory: Path
    environment: dict[str, str]
    port: int
    address: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "slipway.cli", "serve", "--role", "registry"],
                env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        end = time.monotonic() + 120
        while self.health() != 200:
            assert time.monotonic() < end, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.1)

    def health(self) -> int:
        try:
            return self.ask("GET", "/healthz")[0]
        except OSError:
            return 0

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        address = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(address, body, LOGIN | headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()


@dataclass(slots=True)
class Site:
    postgres: Postgres
    faults: Faults
    common: dict[str, str]
    one: Server
    two: Server
    layout: Path


@contextmanager
def several_registries(directory: Path, address: str = "127.0.0.1") -> Iterator[Site]:
    """``address`` is of the network namespace that this thread is in."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        bucket = stack.enter_context(swift(directory / "swift"))
        faults = stack.enter_context(faulty(bucket.endpoint))
        url, keys = database.database(), directory / "keys"
        common = bucket.environment | {
            "SLIPWAY_DATABASE_URL": url,
            "SLIPWAY_STORAGE_URL": bucket.bucket("images").replace(bucket.endpoint, faults.address),
            "SLIPWAY_KEYS": str(keys),
        }  # fmt: skip
        servers = []
        for name in ("one", "two"):
            port = free_port()
            own = {
                "SLIPWAY_LISTEN": f"{address}:{port}",
                "SLIPWAY_DATA": str(directory / name / "never"),
                "SLIPWAY_RUN": str(directory / name / "run"),
            }
            servers.append(Server(directory / name, os.environ | common | own, port, address))
        asyncio.run(_seed(url, keys))
        for server in servers:
            server.start()
            stack.callback(_ended, server)
        yield Site(database, faults, common, servers[0], servers[1], _layout(directory))


def _ended(server: Server) -> None:
    if server.process is not None and server.process.poll() is None:
        server.end()


async def _seed(url: str, keys: Path) -> None:
    database = Database(url)
    await database.migrate()
    access = Access(database, keys)
    await access.create_project("demo")
    await access.create_user("dev", SECRET)
    await access.set_member("demo", "dev", Role.DEVELOPER)
    await access.create_user("replicator", SECRET, is_admin=True)
    await database.dispose()


def _layout(directory: Path) -> Path:
    """An image with a layer of several parts, by umoci."""
    image = f"{directory}/oci:1"
    for words in (
        ["umoci", "init", "--layout", f"{directory}/oci"],
        ["umoci", "new", "--image", image],
        ["umoci", "unpack", "--image", image, f"{directory}/bundle"],
    ):
        subprocess.run(words, check=True, capture_output=True)
    (directory / "bundle/rootfs/large").write_bytes(random.Random(2).randbytes(30 * MEBIBYTE))
    (directory / "bundle/rootfs/small").write_text("hello\n")
    subprocess.run(
        ["umoci", "repack", "--image", image, f"{directory}/bundle"], check=True, capture_output=True
    )
    return directory / "oci"
