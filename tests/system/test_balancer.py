"""HAProxy for real, in a host network of the test's own: under load, killed, refused, left and found again."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from slipway.errors import Conflict, Failed
from slipway.network import Balancer, Route, Server, haproxy, processes
from slipway.network.routes import Files
from slipway.testing.host_network import own_host_network

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(120),
]
LISTEN = "127.0.0.1:8080"
HOST = "web.shop.demo.localhost"
# Answers its name; /slow when /go was asked for, and /held tells how many wait for that; Upgrade with bytes sent back;
# /count tells how often it was asked to POST.
BACKEND = """
import http.server, sys, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    posts = held = 0
    go = threading.Event()
    def do_GET(self):
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.send_header("Upgrade", "echo")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            while data := self.connection.recv(100):
                self.connection.sendall(data)
            self.close_connection = True
            return
        if self.path == "/slow":
            Handler.held += 1
            Handler.go.wait(60)
            Handler.held -= 1
        if self.path == "/go":
            Handler.go.set()
        told = {"/count": Handler.posts, "/held": Handler.held}
        self.answer(str(told.get(self.path, sys.argv[2])))
    def do_POST(self):
        Handler.posts += 1
        self.connection.close()
        self.close_connection = True
    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Seen-For", self.headers.get("X-Forwarded-For", ""))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    def handle_error(self, *words): pass

server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
print(flush=True)
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    with own_host_network():
        yield


@pytest.fixture
def backends() -> Iterator[list[Server]]:
    started = [subprocess.Popen([sys.executable, "-c", BACKEND, str(9001 + index), f"s{index}"], stdout=subprocess.PIPE)
               for index in range(3)]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
    yield [Server(f"s{index}", "127.0.0.1", 9001 + index) for index in range(3)]
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
async def balancer(tmp_path: Path) -> AsyncIterator[Balancer]:
    found = Balancer(tmp_path, LISTEN)
    yield found
    await found.stop()
    assert list(tmp_path.iterdir()) == []
    assert processes.find("haproxy", str(Files(tmp_path / "balancer").config)) == []


def get(host: str = HOST, path: str = "/", method: str = "GET", port: int = 8080) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def fetch(host: str = HOST, path: str = "/", method: str = "GET", port: int = 8080) -> tuple[int, str]:
    return await asyncio.to_thread(get, host, path, method, port)


async def worker(balancer: Balancer) -> int:
    return (await haproxy.processes(balancer._files)).worker


def start(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def load(seconds: int, host: str = HOST) -> subprocess.Popen[str]:
    return start(
        "wrk", "-t1", "-c16", f"-d{seconds}s", "--timeout", "5s", "-H", f"Host: {host}", f"http://{LISTEN}/"
    )


async def flawless(running: subprocess.Popen[str]) -> None:
    text, _ = await asyncio.to_thread(running.communicate)
    assert "Socket errors" not in text, text
    assert "Non-2xx" not in text, text
    found = re.search(r"(\d+) requests in", text)
    assert found is not None, text
    assert int(found[1]) > 200, text


def talk(connection: socket.socket, path: str = "/") -> str:
    """One request on a connection that is kept."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < 2:
        piece = connection.recv(4096)
        if not piece:
            break
        data += piece
    return data.decode()


async def test_hosts_are_told_apart_and_strangers_helped(balancer: Balancer, backends: list[Server]) -> None:
    await balancer.apply([
        Route(HOST, (backends[0],), aliases=("shop.example",)), Route("Db.shop.demo.localhost", (backends[1],)),
        Route("none.shop.demo.localhost", ()),
    ])  # fmt: skip
    assert await fetch() == (200, "s0")
    assert await fetch(f"{HOST.upper()}:8080") == (200, "s0")
    assert await fetch("shop.example") == (200, "s0")
    assert await fetch("db.shop.demo.localhost") == (200, "s1")
    status, text = await fetch("nothing.localhost")
    assert status == 404
    assert "slipway app ls" in text
    status, text = await fetch("none.shop.demo.localhost")
    assert status == 503
    assert "slipway app show" in text


async def test_instances_and_names_change_without_a_new_worker(
    balancer: Balancer, backends: list[Server]
) -> None:
    await balancer.apply([Route(HOST, (backends[0],)), Route("other.localhost", (backends[2],))])
    before = await worker(balancer)
    await balancer.apply(
        [Route(HOST, (backends[1],), aliases=("shop.example",)), Route("other.localhost", ())]
    )
    assert await fetch() == (200, "s1")
    assert await fetch("shop.example") == (200, "s1")
    assert (await fetch("other.localhost"))[0] == 503
    await balancer.apply([Route(HOST, (backends[0],))])
    assert await fetch() == (200, "s0")
    assert (await fetch("shop.example"))[0] == 404
    assert (await fetch("other.localhost"))[0] == 404
    await balancer.apply([Route(HOST, (Server("s0", "127.0.0.1", backends[1].port),))])
    assert await fetch() == (200, "s1")
    assert await worker(balancer) == before
    await balancer.apply([Route(HOST, (backends[0],)), Route("new.localhost", (backends[2],))])
    assert await fetch("new.localhost") == (200, "s2")
    assert await worker(balancer) != before


async def test_switching_to_and_fro_under_load_fails_no_request(
    balancer: Balancer, backends: list[Server]
) -> None:
    await balancer.apply([Route(HOST, (backends[0],))])
    before, running = await worker(balancer), load(6)
    for turn in range(20):
        comes, goes = backends[(turn + 1) % 2], backends[turn % 2]
        await balancer.apply([Route(HOST, (comes, goes))])
        await balancer.apply([Route(HOST, (comes,))])
        assert await balancer.drain(goes.id, 30)
        await balancer.forget(goes.id)
        await asyncio.sleep(0.1)
    await flawless(running)
    assert await worker(balancer) == before
    assert [item.server for item in await balancer.stats()] == ["s0"]


async def test_new_services_under_load_fail_no_request(balancer: Balancer, backends: list[Server]) -> None:
    routes = [Route(HOST, (backends[0],))]
    await balancer.apply(routes)
    running = load(7)
    for turn in range(6):
        await asyncio.sleep(0.3)
        routes.append(
            Route(f"new{turn}.localhost", (backends[2],), f"127.0.0.1:{7000 + turn}" if turn % 2 else "")
        )
        await balancer.apply(routes)
        assert await fetch(f"new{turn}.localhost") == (200, "s2")
        # A release right after: workers that were replaced a moment ago know the old instance only.
        routes[0] = Route(HOST, (backends[(turn + 1) % 2],))
        await balancer.apply(routes)
        assert await balancer.drain(backends[turn % 2].id, 30)
    await flawless(running)


async def test_draining_waits_for_requests_and_says_when_it_gave_up(
    balancer: Balancer, backends: list[Server]
) -> None:
    await balancer.apply([Route(HOST, (backends[0],))])
    slow = asyncio.create_task(fetch(path="/slow"))
    while await fetch(path="/held", port=backends[0].port) != (200, "1"):
        assert not slow.done()
    await balancer.apply([Route(HOST, (backends[1],))])
    assert not await balancer.drain("s0", 0.1)
    assert await fetch(path="/go", port=backends[0].port) == (200, "s0")
    assert await balancer.drain("s0", 30)
    assert await slow == (200, "s0")
    assert await fetch() == (200, "s1")
    assert await balancer.drain("never there", 1)


async def test_draining_waits_for_connections_of_a_replaced_worker(
    balancer: Balancer, backends: list[Server]
) -> None:
    """A connection that is kept open stays with its worker, which knows the old instances only."""
    await balancer.apply([Route(HOST, (backends[0],))])
    with socket.create_connection(("127.0.0.1", 8080)) as kept:
        assert "s0" in await asyncio.to_thread(talk, kept)
        await balancer.apply([Route(HOST, (backends[0],)), Route("new.localhost", (backends[2],))])
        await balancer.apply([Route(HOST, (backends[1],)), Route("new.localhost", (backends[2],))])
        assert not await balancer.drain("s0", 0.3)
        answer = await asyncio.to_thread(talk, kept)
        assert answer.endswith("s0")
        assert "connection: close" in answer.lower()
    assert await balancer.drain("s0", 5)


async def test_open_websockets_outlive_a_reload(balancer: Balancer, backends: list[Server]) -> None:
    await balancer.apply([Route(HOST, (backends[0],))])
    with socket.create_connection(("127.0.0.1", 8080)) as wire:
        wire.sendall(
            f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n".encode()
        )
        assert b" 101 " in wire.recv(4096)
        await balancer.apply([Route(HOST, (backends[1],)), Route("new.localhost", ())])
        wire.sendall(b"still there?")
        assert wire.recv(100) == b"still there?"
        assert not await balancer.drain("s0", 0.3)
        assert await balancer.drain("s1", 30)
    assert await balancer.drain("s0", 30)


async def test_a_published_port_is_tcp_and_goes_with_its_route(
    balancer: Balancer, backends: list[Server]
) -> None:
    await balancer.apply([Route(HOST, (backends[0],), "127.0.0.1:7000")])
    assert await fetch("whatever", port=7000) == (200, "s0")
    await balancer.apply([Route(HOST, (backends[1],), "127.0.0.1:7000")])
    assert await fetch("whatever", port=7000) == (200, "s1")
    await balancer.apply([Route(HOST, (backends[1],), "127.0.0.1:7001")])
    assert await fetch("whatever", port=7001) == (200, "s1")
    await balancer.apply([Route(HOST, (backends[1],))])
    for port in (7000, 7001):
        with pytest.raises(ConnectionRefusedError):
            await fetch(port=port)


async def test_no_name_of_a_service_is_one_of_ours(balancer: Balancer, backends: list[Server]) -> None:
    one, two, _ = backends
    await balancer.apply([Route(HOST, (one,), "127.0.0.1:5432"), Route(f"tcp_{HOST}", (two,))])
    assert await fetch() == (200, "s0")
    assert await fetch(f"tcp_{HOST}") == (200, "s1")


async def test_what_changes_something_is_asked_once_only(balancer: Balancer, backends: list[Server]) -> None:
    await balancer.apply([Route(HOST, (backends[0],))])
    assert (await fetch(method="POST"))[0] in (502, 503)
    assert await fetch(path="/count") == (200, "1")


async def test_an_instance_that_died_is_passed_over(balancer: Balancer, backends: list[Server]) -> None:
    await balancer.apply([Route(HOST, (backends[0], Server("dead", "127.0.0.1", 9999)))])
    assert {await fetch() for _ in range(8)} == {(200, "s0")}


async def test_an_address_in_use_is_a_conflict_that_names_its_holder(
    balancer: Balancer, backends: list[Server]
) -> None:
    with socket.create_server(("127.0.0.1", 8080)):
        with pytest.raises(Conflict, match=rf"8080 for apps is in use by .*\(pid {os.getpid()}\)"):
            await balancer.apply([])
    await balancer.apply([Route(HOST, (backends[0],))])
    with socket.create_server(("0.0.0.0", 7000)):
        with pytest.raises(Conflict, match="7000 for apps is in use"):
            await balancer.apply([Route(HOST, (backends[1],), "127.0.0.1:7000")])
    assert await fetch() == (200, "s0")
    await balancer.apply([Route(HOST, (backends[1],), "127.0.0.1:7000")])
    assert await fetch(port=7000) == (200, "s1")


async def test_two_balancers_do_not_share_an_address(balancer: Balancer, tmp_path: Path) -> None:
    await balancer.apply([])
    other = Balancer(tmp_path / "other", LISTEN)
    with pytest.raises(Conflict, match="by haproxy"):
        await other.apply([])
    assert not (tmp_path / "other").exists()
    await other.stop()


async def _nobody(*_: object) -> None:
    """Whoever looks at who listens sees nobody."""


async def test_a_reload_that_fails_changes_nothing(
    balancer: Balancer, backends: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    await balancer.apply([Route(HOST, (backends[0],))])
    with socket.create_server(("127.0.0.1", 7000)), monkeypatch.context() as blind:
        blind.setattr(Balancer, "_others_at", _nobody)
        with pytest.raises(Failed, match="does not take its new configuration"):
            await balancer.apply([Route(HOST, (backends[0],), "127.0.0.1:7000")])
    assert await fetch() == (200, "s0")
    await balancer.apply([Route(HOST, (backends[1],))])
    assert await fetch() == (200, "s1")
    await balancer.apply([Route(HOST, (backends[1],), "127.0.0.1:7000")])
    assert await fetch(port=7000) == (200, "s1")


async def test_another_server_finds_it_and_changes_only_what_differs(
    balancer: Balancer, backends: list[Server], tmp_path: Path
) -> None:
    routes = [Route(HOST, (backends[0],)), Route("other.localhost", (backends[2],), "127.0.0.1:7000")]
    await balancer.apply(routes)
    master, before = balancer.pid(), await worker(balancer)
    again = Balancer(tmp_path, LISTEN)
    assert again.running()
    await again.apply(routes)
    await again.apply([Route(HOST, (backends[1],)), routes[1]])
    assert await fetch() == (200, "s1")
    assert (again.pid(), await worker(again)) == (master, before)
    moved = Balancer(tmp_path, "127.0.0.1:8081")
    await moved.apply(routes)
    assert await fetch(port=8081) == (200, "s0")
    assert moved.pid() == master


async def test_killed_it_is_started_again(balancer: Balancer, backends: list[Server]) -> None:
    await balancer.apply([Route(HOST, (backends[0],))])
    pid = balancer.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while balancer.running() and time.monotonic() < end:
        await asyncio.sleep(0.01)
    await balancer.ensure_running()
    assert await fetch() == (200, "s0")
    os.kill(await worker(balancer), signal.SIGKILL)
    while balancer.running() and time.monotonic() < end:
        await asyncio.sleep(0.01)
    await balancer.apply([Route(HOST, (backends[1],))])
    assert await fetch() == (200, "s1")


async def test_a_pid_file_that_lies_harms_nobody(balancer: Balancer, tmp_path: Path) -> None:
    (tmp_path / "balancer").mkdir()
    (tmp_path / "balancer" / "haproxy.pid").write_text(f"{os.getpid()}\n")
    assert not balancer.running()
    await balancer.stop()


async def test_stopped_although_its_pid_file_is_lost(balancer: Balancer, tmp_path: Path) -> None:
    await balancer.apply([])
    (tmp_path / "balancer" / "haproxy.pid").unlink()
    await balancer.stop()
    with pytest.raises(ConnectionRefusedError):
        await fetch()
