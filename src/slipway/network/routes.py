"""What the balancer should do, as values; HAProxy's configuration as a pure function of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Server:
    """One instance that can take requests."""

    id: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Route:
    """A published service: by host name over HTTP, and with ``tcp_listen`` also on an address of its own."""

    host: str
    servers: tuple[Server, ...]
    tcp_listen: str = ""

    @property
    def backend(self) -> str:
        return _SAFE.sub("_", self.host)


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
    def unknown(self) -> Path:
        return self.directory / "404.http"

    @property
    def nobody(self) -> Path:
        return self.directory / "503.http"


_HEAD = """\
global
    log stderr format raw local0 notice
    hard-stop-after 60s
    stats socket {admin} mode 600 level admin expose-fd listeners
    stats timeout 30s

defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout http-request 30s
    timeout http-keep-alive 60s
    timeout tunnel 24h
    timeout queue 30s
    retries 3
    option redispatch 1
    option forwardfor
    option idle-close-on-response
    retry-on conn-failure empty-response
    http-reuse safe
    balance leastconn

frontend apps
    bind {listen}
    acl known req.hdr(host),field(1,:),lower,map({hosts}) -m found
    http-request return status 404 content-type text/plain file {unknown} unless known
    use_backend %[req.hdr(host),field(1,:),lower,map({hosts})]
"""


def render(routes: Sequence[Route], listen: str, files: Files) -> str:
    """The whole configuration; equal routes give equal text."""
    parts = [_HEAD.format(admin=files.admin, listen=listen, hosts=files.hosts, unknown=files.unknown)]
    for route in sorted(routes, key=lambda item: item.host):
        parts.append(f"\nbackend {route.backend}\n    errorfile 503 {files.nobody}\n")
        parts += [f"    {server_line(server)}\n" for server in route.servers]
        if route.tcp_listen:
            parts.append(
                f"\nfrontend tcp_{route.backend}\n    mode tcp\n    bind {route.tcp_listen}\n"
                f"    default_backend tcp_{route.backend}\n"
                f"\nbackend tcp_{route.backend}\n    mode tcp\n    retry-on conn-failure\n"
            )
            parts += [f"    {server_line(server)}\n" for server in route.servers]
    return "".join(parts)


def server_line(server: Server) -> str:
    return f"server {server.id} {server.address}:{server.port} maxconn 2000"


def render_map(routes: Sequence[Route]) -> str:
    return "".join(f"{route.host} {route.backend}\n" for route in sorted(routes, key=lambda item: item.host))


def shape(routes: Sequence[Route]) -> tuple[tuple[str, str], ...]:
    """What only a reload can change: the backends and the listening addresses."""
    return tuple(sorted((route.host, route.tcp_listen) for route in routes))
