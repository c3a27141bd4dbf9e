"""Two primaries in two data centres, each several servers over a PostgreSQL and a bucket of its own, and the line."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway.access import Vault
from slipway.base import linux
from slipway.base.ids import new_id
from slipway.registry.replication import Sites
from slipway.registry.replication.sites import ConflictRecord
from slipway.state import Database
from slipway.testing.host_network import own_host_network
from slipway.testing.several import SECRET, Server, Site, several_registries

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("swift-proxy-server"), reason="needs Swift"),
    pytest.mark.timeout(600),
]
HOST = "10.77.0.254"


@dataclass
class Centre:
    """A network namespace with everything of a site in it."""

    name: str
    address: str
    site: Site

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.site.one, self.site.two

    def database(self) -> Database:
        return Database(self.site.common["SLIPWAY_DATABASE_URL"])

    async def follow(self, other: Centre) -> None:
        """Give everything to the other one."""
        database = self.database()
        sites = Sites(database, Vault(Path(self.site.common["SLIPWAY_KEYS"])))
        url = other.site.two.url
        await sites.add("other", url, "push", "replicator", SECRET, {"deletions": True})
        await database.dispose()

    async def conflicts(self) -> list[ConflictRecord]:
        database = self.database()
        found = await Sites(database, Vault(Path(self.site.common["SLIPWAY_KEYS"]))).conflicts()
        await database.dispose()
        return found

    def digest(self, tag: str, server: int = 0) -> str:
        status, headers, _ = self.servers[server].ask("HEAD", f"/v2/demo/app/manifests/{tag}")
        found = {name.lower(): text for name, text in headers.items()}
        return found["docker-content-digest"] if status == 200 else ""

    def push(self, tag: str, server: int = 0, changed: str = "") -> str:
        """Acknowledged when this returns."""
        source = f"oci:{self.site.layout}:1"
        if changed:
            words = [
                "umoci",
                "config",
                "--image",
                f"{self.site.layout}:1",
                "--tag",
                tag,
                "--config.label",
                f"n={changed}",
            ]
            run(*words)
            source = f"oci:{self.site.layout}:{tag}"
        target = f"docker://{self.address}:{self.servers[server].port}/demo/app:{tag}"
        words = [
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--dest-creds",
            f"dev:{SECRET}",
        ]
        run("skopeo", *words, source, target)
        return self.digest(tag)

    def link(self, *, up: bool) -> None:
        """To the other centre; whoever pushes reaches both."""
        run("ip", "link", "set", f"v{self.name}", "type", "bridge_slave", "isolated", "off" if up else "on")


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, (words, done.stderr)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread, and what it starts, in the namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(there, linux.CLONE_NEWNET)
        yield
    finally:
        linux.setns(before, linux.CLONE_NEWNET)
        os.close(before)
        os.close(there)


def centre(stack: ExitStack, directory: Path, address: str) -> Centre:
    name = f"dc{new_id(6)}"
    directory.mkdir()
    run("ip", "netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=False)
    run("ip", "link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", f"v{name}", "master", "wan", "up")
    inside = ("ip", "-n", name)
    run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        run(*inside, "link", "set", device, "up")
    with entered(name):
        site = stack.enter_context(several_registries(directory, address))
    return Centre(name, address, site)


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Centre]]:
    with own_host_network(), ExitStack() as stack:
        run("ip", "link", "add", "wan", "type", "bridge")
        run("ip", "address", "add", f"{HOST}/24", "dev", "wan")
        run("ip", "link", "set", "wan", "up")
        directory = tmp_path_factory.mktemp("centres")
        found = [centre(stack, directory / name, f"10.77.0.{number}") for number, name in enumerate("ab", 1)]
        yield found


def until(check: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.3)


def test_two_primaries_over_a_line_that_breaks_and_the_loss_of_one(centres: list[Centre]) -> None:
    a, b = centres
    for one, other in ((a, b), (b, a)):
        asyncio.run(one.follow(other))
    first = a.push("v1")
    for server in (0, 1):
        until(lambda server=server: b.digest("v1", server) == first)  # type: ignore[misc]

    for one in (a, b):
        one.link(up=False)
    here, there = a.push("from-a", 1, "a"), b.push("from-b", 0, "b")
    lost, kept = a.push("latest", 0, "one"), b.push("latest", 1, "two")
    assert lost != kept
    time.sleep(5)
    assert (a.digest("from-b"), b.digest("from-a")) == ("", "")
    assert (a.digest("latest"), b.digest("latest")) == (lost, kept)

    for one in (a, b):
        one.link(up=True)
    until(lambda: a.digest("from-b") == there and b.digest("from-a") == here)
    until(lambda: a.digest("latest") == b.digest("latest") == kept)
    recorded = asyncio.run(a.conflicts()) + asyncio.run(b.conflicts())
    assert {(item.tag, item.kept, item.lost) for item in recorded} == {("latest", kept, lost)}

    final = a.push("v2", 0, "last")
    until(lambda: b.digest("v2") == final)
    for process in a.servers:
        process.end(signal.SIGKILL)
    a.site.postgres.stop()
    a.link(up=False)
    wanted = {"v1": first, "v2": final, "from-a": here, "from-b": there, "latest": kept}
    for tag, digest in wanted.items():
        for server in (0, 1):
            assert b.digest(tag, server) == digest
        source = f"docker://{b.address}:{b.site.one.port}/demo/app:{tag}"
        words = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--src-creds", f"dev:{SECRET}"]
        run("skopeo", *words, source, f"dir:{b.site.layout.parent / tag}")
    assert b.push("v3", 1, "alone")
