"""What the balancer should do, as values; HAProxy's configuration as a pure function of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import Conflict, Invalid

_SAFE = re.compile(r"[^A-Za-z0-9_.-]")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_WORD = re.compile(r"[A-Za-z0-9_.:\[\]*-]+")
TCP = "tcp:"  # in front of the names of what is no HTTP; no host name has a colon
_LISTEN = re.compile(r"(\*|[0-9.]+|\[[0-9a-fA-F:.]+\]|[a-z][a-z0-9.-]*)?:\d{1,5}")


@dataclass(frozen=True, slots=True)
class Server:
    """One instance that can take requests."""

    id: str
    address: str
    port: int

    def __post_init__(self) -> None:
        if not _WORD.fullmatch(self.id) or not _WORD.fullmatch(self.address) or not 0 < self.port < 65536:
            raise Invalid(f"no server for the balancer: {self.id!r} at {self.address!r}, port {self.port}")


@dataclass(frozen=True, slots=True)
class Route:
    """A published service: by its host names over HTTP, and with ``tcp_listen`` also on an address of its own."""

    host: str
    servers: tuple[Server, ...]
    tcp_listen: str = ""
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise Invalid(f"{host!r} is no host name the balancer could serve")
        if self.tcp_listen and not _LISTEN.fullmatch(self.tcp_listen):
            raise Invalid(f"{self.tcp_listen!r} is no address to listen on", hint="ADDRESS:PORT")

    @property
    def hosts(self) -> tuple[str, ...]:
        return (self.host, *self.aliases)

    @property
    def backend(self) -> str:
        return _SAFE.sub("_", self.host)

    @property
    def frontend(self) -> str:
        """The TCP frontend's name tells the address, so what runs can be compared with what is wanted."""
        return f"{TCP}{_SAFE.sub('_', self.tcp_listen)}_{self.backend}" if self.tcp_listen else ""

    @property
    def backends(self) -> tuple[str, ...]:
        return (self.backend, f"{TCP}{self.backend}") if self.tcp_listen else (self.backend,)


@dataclass(frozen=True, slots=True)
class Files:
    """Where the balancer keeps what it needs."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "haproxy.cfg"

    @property
    def hosts(self) -> Path:
        return self.directory / "hosts.map"

    @property
    def admin(self) -> Path:
        return self.directory / "admin.sock"

    @property
    def master(self) -> Path:
        return self.directory / "master.sock"

    @property
    def pid(self) -> Path:
        return self.directory / "haproxy.pid"

    @property
    def log(self) -> Path:
        return self.directory / "haproxy.log"

    @property
    def unknown(self) -> Path:
        return self.directory / "404.txt"

    @property
    def nobody(self) -> Path:
        return self.directory / "503.http"


# A worker that was replaced keeps its open websockets until hard-stop-after. Repeating a request that may have been
# worked on already is right for safe methods only. Idle connections are kept briefly: those of a replaced worker must
# have gone before an instance it still knows may end (see ``Balancer.drain``).
_HEAD = """\
global
    description {identity}
    log stderr format raw local0 notice
    hard-stop-after 30m
    mworker-max-reloads 20
    stats socket {admin} mode 600 level admin expose-fd listeners
    stats timeout 30s

defaults http
    mode http
    timeout connect 5s
    timeout client 5m
    timeout server 5m
    timeout http-request 30s
    timeout http-keep-alive 10s
    timeout tunnel 24h
    timeout queue 30s
    retries 3
    option redispatch 1
    option forwardfor
    option idle-close-on-response
    retry-on conn-failure empty-response
    http-reuse safe
    balance leastconn

defaults tcp
    mode tcp
    timeout connect 5s
    timeout client 24h
    timeout server 24h
    timeout queue 30s
    retries 3
    option redispatch 1
    balance leastconn

frontend apps from http
    bind {listen}
    http-request disable-l7-retry if !METH_GET !{{ method OPTIONS }}
    http-request set-var(txn.backend) req.hdr(host),field(1,:),lower,map({hosts})
    http-request return status 404 content-type text/plain file {unknown} unless {{ var(txn.backend) -m found }}
    use_backend %[var(txn.backend)]
"""


def render(routes: Sequence[Route], listen: str, files: Files) -> str:
    """The whole configuration; equal routes give equal text."""
    parts = [head(listen, files)]
    for route in sorted(routes, key=lambda item: item.host):
        servers = "".join(
            f"    {server_line(server)}\n" for server in sorted(route.servers, key=lambda item: item.id)
        )
        parts.append(f"\nbackend {route.backend} from http\n    errorfile 503 {files.nobody}\n{servers}")
        if route.tcp_listen:
            parts.append(
                f"\nfrontend {route.frontend} from tcp\n    bind {route.tcp_listen}\n"
                f"    default_backend {TCP}{route.backend}\n\nbackend {TCP}{route.backend} from tcp\n{servers}"
            )
    return "".join(parts)


def head(listen: str, files: Files) -> str:
    """What is the same whatever the routes are."""
    return _HEAD.format(
        identity=identity(listen, files),
        admin=files.admin,
        listen=listen,
        hosts=files.hosts,
        unknown=files.unknown,
    )


def identity(listen: str, files: Files) -> str:
    """Changes with the address and with this module: a HAProxy that tells another one needs a new configuration."""
    return hashlib.sha256(f"{_HEAD}\0{listen}\0{files.directory}".encode()).hexdigest()[:16]


def server_line(server: Server) -> str:
    return f"server {server.id} {server.address}:{server.port} maxconn 2000"


def host_map(routes: Iterable[Route]) -> dict[str, str]:
    return {host.lower(): route.backend for route in routes for host in route.hosts}


def render_map(routes: Iterable[Route]) -> str:
    return "".join(f"{host} {backend}\n" for host, backend in sorted(host_map(routes).items()))


def check(routes: Sequence[Route], listen: str) -> None:
    """Raises ``Conflict`` when two routes want the same host name or address."""
    seen: dict[str, str] = {listen: "the balancer itself"}
    backends: set[str] = set()
    for route in routes:
        for key in (*map(str.lower, route.hosts), *([route.tcp_listen] if route.tcp_listen else [])):
            if key in seen:
                raise Conflict(f"{key} is wanted twice: by {seen[key]} and by {route.host}")
            seen[key] = route.host
        if route.backend in backends:
            raise Conflict(f"the name of {route.host} is too much like another's")
        backends.add(route.backend)
