"""Two API servers over one database and one bucket: one leads, either answers, and the end of one is not the end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slipway.testing.leadership import leader_of
from slipway.testing.platform import free_port
from slipway.testing.postgres import postgres
from slipway.testing.swift import swift

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PASSWORD = "correct horse"
PATIENCE = 60


@dataclass(slots=True)
class Server:
    directory: Path
    environment: dict[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = None
    token: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "slipway.app", "serve", "--role", "api"],
                env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.wait(lambda: self.answers("/healthz"))

    def wait(self, condition: Any) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, (self.directory / "log").read_text()
            assert self.process is not None
            assert self.process.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.1)

    def answers(self, path: str) -> bool:
        try:
            return self.ask("GET", path)[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """An ``Iterator`` is sent in pieces, as it comes."""
        data = body if body is None or hasattr(body, "__next__") else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, text.decode()

    def log_in(self) -> None:
        status, found = self.ask("POST", "/api/v1/login", {"name": "admin", "password": PASSWORD})
        assert status == 200, found
        self.token = found["token"]

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@dataclass(slots=True)
class Site:
    database: str
    servers: list[Server]

    def leader(self) -> Server | None:
        address = leader_of(self.database)
        return next((item for item in self.servers if item.url == address), None)

    def led(self) -> tuple[Server, Server]:
        """The one who leads, and the other."""
        end = time.monotonic() + PATIENCE
        while (found := self.leader()) is None:
            assert time.monotonic() < end, "nobody leads"
            time.sleep(0.1)
        return found, next(item for item in self.servers if item is not found)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        database = stack.enter_context(postgres()).database()
        bucket = stack.enter_context(swift(tmp_path / "swift"))
        keys = tmp_path / "keys"
        subprocess.run(
            [sys.executable, "-m", "slipway.app", "keys", str(keys)], check=True, capture_output=True
        )
        common = bucket.environment | {
            "SLIPWAY_DATABASE_URL": database, "SLIPWAY_STORAGE_URL": bucket.bucket("images"),
            "SLIPWAY_KEYS": str(keys), "SLIPWAY_ADMIN_PASSWORD": PASSWORD, "SLIPWAY_GRACE_SECONDS": "20",
        }  # fmt: skip
        servers = []
        for name in ("one", "two"):
            port, home = free_port(), tmp_path / name
            own = {
                "SLIPWAY_LISTEN": f"127.0.0.1:{port}", "SLIPWAY_KUBERNETES_SERVER": f"http://127.0.0.1:{port}",
                "SLIPWAY_DATA": str(home / "data"), "SLIPWAY_RUN": str(home / "run"),
            }  # fmt: skip
            servers.append(Server(home, os.environ | common | own, port))
        found = Site(database.replace("postgresql://", "postgresql+asyncpg://"), servers)
        for server in servers:
            stack.callback(_ended, server)
            server.start()
        leader, _ = found.led()
        leader.wait(lambda: _admin_is_there(leader))
        for server in servers:
            server.log_in()
        yield found


def _ended(server: Server) -> None:
    if server.process is not None and server.process.poll() is None:
        server.process.kill()
        server.process.wait()


def _admin_is_there(server: Server) -> bool:
    return server.ask("POST", "/api/v1/login", {"name": "admin", "password": PASSWORD})[0] == 200


def _tar(size: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (("Dockerfile", b"FROM scratch\nCOPY big /\n"), ("big", os.urandom(size))):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def test_either_answers_and_one_works(site: Site) -> None:
    leader, other = site.led()
    assert other.ask("POST", "/api/v1/projects", {"name": "shop"})[0] in (200, 201)
    assert "shop" in {item["name"] for item in leader.ask("GET", "/api/v1/projects")[1]}
    assert other.ask("POST", "/api/v1/projects", {"name": "shop"})[0] == 409

    archive = _tar(5_000_000)
    pieces = iter([archive[at : at + 100_000] for at in range(0, len(archive), 100_000)])
    status, uploaded = other.ask("POST", "/api/v1/uploads", pieces)
    assert status == 201
    # The upload is in the leader's hands, and the build is refused there for want of a cluster, in its stream.
    wanted = {"name": "web", "tags": ["1"], "source": {"upload": uploaded["id"]}}
    status, events = other.ask("POST", "/api/v1/projects/shop/builds", wanted)
    assert status == 200
    last = json.loads(events.splitlines()[-1])
    assert (last["event"], last["kind"]) == ("error", "invalid")
    assert "has no cluster to build on" in last["message"]
    (record,) = leader.ask("GET", "/api/v1/builds?project=shop")[1]
    said = [
        json.loads(line) for line in other.ask("GET", f"/api/v1/builds/{record['id']}/log")[1].splitlines()
    ]
    assert [item["event"] for item in said] == ["build.start", "build.done"]

    # What takes a machine is refused, with what to do instead.
    daemon = {"name": "near", "kind": "socket", "address": "unix:///var/run/docker.sock"}
    assert other.ask("POST", "/api/v1/builders", daemon)[0] == 201
    _, uploaded = other.ask("POST", "/api/v1/uploads", iter([_tar(1)]))
    wanted |= {"source": {"upload": uploaded["id"]}, "builder": "near"}
    for path, body in (
        ("/api/v1/projects/shop/builds", wanted),
        ("/api/v1/images/base", {"name": "debian:bookworm"}),
    ):
        last = other.ask("POST", path, body)[1]  # of a stream that has one line
        assert (last["event"], last["kind"]) == ("error", "unsupported"), last
        assert "has no machine" in last["message"]
        assert last["hint"]

    assert other.ask("GET", "/v2/")[0] == 401  # the registry's, and not the platform's, whose token this is
    keys = {server.ask("GET", "/api/v1/projects/shop/signing-key")[1]["public"] for server in site.servers}
    assert len(keys) == 1


def test_the_other_leads_when_the_leader_is_killed(site: Site) -> None:
    leader, other = site.led()
    leader.end(signal.SIGKILL)
    began = time.monotonic()
    # Held until there is a leader again, which is the server that was asked.
    assert other.ask("POST", "/api/v1/projects", {"name": "after"})[0] in (200, 201)
    assert time.monotonic() - began < PATIENCE
    assert site.leader() is other
    leader.start()
    assert leader.ask("DELETE", "/api/v1/projects/after")[0] == 204
    assert site.leader() is other


def test_a_leader_that_is_stopped_hands_over_at_once(site: Site) -> None:
    leader, other = site.led()
    assert leader.end(signal.SIGTERM) == 0
    assert site.leader() in (None, other)
    assert other.ask("POST", "/api/v1/projects", {"name": "after"})[0] in (200, 201)
    assert site.leader() is other


def test_a_leader_that_slept_too_long_ends_by_itself(site: Site) -> None:
    leader, other = site.led()
    assert leader.process is not None
    os.kill(leader.process.pid, signal.SIGSTOP)
    try:
        other.wait(lambda: site.leader() is other)
        assert other.ask("POST", "/api/v1/projects", {"name": "after"})[0] in (200, 201)
    finally:
        os.kill(leader.process.pid, signal.SIGCONT)
    assert leader.process.wait(PATIENCE) == 70
    assert site.leader() is other
