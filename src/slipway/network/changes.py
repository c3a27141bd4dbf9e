"""From what HAProxy does to what it should do: which commands, and whether commands suffice. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway.network.routes import TCP, Route, Server, host_map, server_line


@dataclass(frozen=True, slots=True)
class Seen:
    """A server as HAProxy tells of it. ``taking``: new requests go there."""

    address: str
    port: int
    taking: bool


@dataclass(frozen=True, slots=True)
class State:
    """What a running HAProxy does. Keys of ``servers`` are backend and server."""

    identity: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)
    backends: frozenset[str] = frozenset()
    frontends: frozenset[str] = frozenset()
    servers: Mapping[tuple[str, str], Seen] = field(default_factory=dict)


def parse_servers(text: str) -> dict[tuple[str, str], Seen]:
    """``show servers state``: a version, a heading, a line a server."""
    found = {}
    names: list[str] = []
    for line in text.splitlines():
        if line.startswith("# "):
            names = line[2:].split()
        elif names and line.strip():
            row = dict(zip(names, line.split(), strict=False))
            key = (row["be_name"], row["srv_name"])
            found[key] = Seen(row["srv_addr"], int(row["srv_port"]), int(row["srv_admin_state"]) == 0)
    return found


def parse_map(text: str) -> dict[str, str]:
    """``show map``: a pointer, a key, a value."""
    rows = [line.split() for line in text.splitlines() if line.startswith("0x")]
    return {row[1]: row[2] for row in rows if len(row) == 3}


def parse_names(text: str) -> frozenset[str]:
    """``show backend``: one a line."""
    return frozenset(line.strip() for line in text.splitlines() if line.strip() and line[0] != "#")


def needs_reload(state: State, routes: Sequence[Route], identity: str) -> bool:
    """Only a new configuration brings a backend, or brings or ends an address that is listened on.

    A backend that nobody needs any more does no harm and stays until then.
    """
    wanted = {backend for route in routes for backend in route.backends}
    frontends = {route.frontend for route in routes if route.tcp_listen}
    running = {name for name in state.frontends if name.startswith(TCP)}
    return state.identity != identity or not wanted <= state.backends or frontends != running


def diff(state: State, routes: Sequence[Route], hosts: Path) -> list[str]:
    """The commands that make ``state`` serve ``routes``, in an order in which no request is lost:
    new servers first, then names, then the servers that are not wanted stop taking requests."""
    wanted = {
        (backend, server.id): server
        for route in routes
        for backend in route.backends
        for server in route.servers
    }
    commands: list[str] = []
    for (backend, identity), server in sorted(wanted.items()):
        commands += _bring(backend, server, state.servers.get((backend, identity)))
    names = host_map(routes)
    for host in sorted({*names, *state.hosts}):
        commands += _name(host, state.hosts.get(host), names.get(host), hosts)
    for (backend, identity), seen in sorted(state.servers.items()):
        if (backend, identity) not in wanted and seen.taking:
            commands.append(f"set server {backend}/{identity} state drain")
    return commands


def _bring(backend: str, server: Server, seen: Seen | None) -> list[str]:
    name = f"{backend}/{server.id}"
    if seen is None:
        return [
            f"add {server_line(server).replace('server ', f'server {backend}/', 1)}",
            f"enable server {name}",
        ]
    commands = []
    if (seen.address, seen.port) != (server.address, server.port):
        commands.append(f"set server {name} addr {server.address} port {server.port}")
    if not seen.taking:
        commands.append(f"set server {name} state ready")
    return commands


def _name(host: str, before: str | None, after: str | None, hosts: Path) -> list[str]:
    if before == after:
        return []
    if after is None:
        return [f"del map {hosts} {host}"]
    return [f"{'add' if before is None else 'set'} map {hosts} {host} {after}"]


def idle(state: State, routes: Sequence[Route]) -> list[tuple[str, str]]:
    """Servers that took nothing already and are wanted by nobody: they can be removed when their requests end."""
    wanted = {
        (backend, server.id) for route in routes for backend in route.backends for server in route.servers
    }
    return sorted(key for key, seen in state.servers.items() if key not in wanted and not seen.taking)
