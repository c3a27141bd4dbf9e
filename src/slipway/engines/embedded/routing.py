"""Which addresses an app answers at: routes from what is published, kept across restarts of the server."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slipway.base.files import read_json, write_json
from slipway.compose import Port, Service
from slipway.delivery.engine import AppRef, Instance
from slipway.delivery.hosts import hosts
from slipway.errors import Conflict
from slipway.network import Route, Server

Routes = dict[AppRef, tuple[Route, ...]]


def listen(port: Port) -> str:
    """Where a published port is heard; only this machine unless the Compose file says otherwise."""
    host = port.host_ip or "127.0.0.1"
    return f"[{host}]:{port.published}" if ":" in host else f"{host}:{port.published}"


def routes(
    app: AppRef, targets: Mapping[str, tuple[Service, Sequence[Instance]]], domain: str
) -> tuple[Route, ...]:
    found: dict[str, Route] = {}
    for service, instances in targets.values():
        for host, port in hosts(app, service, domain):
            servers = tuple(Server(item.id, item.address, port.target) for item in instances if item.address)
            while host in found:  # one port of the container, published more than once
                host = f"{port.published}-{host}"
            found[host] = Route(host, servers, listen(port) if port.published else "")
    return tuple(found.values())


def check_listens(
    app: AppRef, wanted: Sequence[Route], known: Mapping[AppRef, Sequence[Route]], *, ours: bool
) -> None:
    """Raises ``Conflict`` when an address is taken: by another app, by the app itself, by another program.

    ``ours``: the balancer runs, so that what is ``known`` is held by it.
    """
    holders = {route.tcp_listen: ref for ref, found in known.items() for route in found if route.tcp_listen}
    mine: set[str] = set()
    for address in (route.tcp_listen for route in wanted if route.tcp_listen):
        holder = holders.get(address, app)
        if holder != app or address in mine:
            raise Conflict(
                f"the address {address} is published by {holder} already",
                hint="publish another port, or none: every service is reached by its name",
            )
        if not (ours and address in holders) and (reason := _taken(address)):
            raise Conflict(
                f"the address {address} cannot be published: {reason}",
                hint="stop what listens there (`ss -ltnp`), or publish another port",
            )
        mine.add(address)


def _taken(address: str) -> str:
    """Why nobody can listen there; empty if one can."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            return os.strerror(error.errno or 0)
    return ""


def living(kept: Routes, running: Mapping[str, str]) -> Routes:
    """``kept`` without servers that do not run at their address any more, say since the machine was started anew."""
    return {
        app: tuple(
            replace(
                route, servers=tuple(item for item in route.servers if running.get(item.id) == item.address)
            )
            for route in found
        )
        for app, found in kept.items()
    }


def heard(known: Mapping[AppRef, Sequence[Route]]) -> Routes:
    """``known`` without the addresses that nobody can listen on now, say since the machine has others.

    A balancer that starts would not start with them, for any app. Whose they are is told when it publishes again.
    """
    return {
        app: tuple(
            replace(route, tcp_listen="") if route.tcp_listen and _taken(route.tcp_listen) else route
            for route in found
        )
        for app, found in known.items()
    }


class KeptRoutes:
    """The file that says what the balancer serves, for the server that comes after this one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Routes:
        try:
            return {
                AppRef(item["project"], item["app"]): tuple(_route(route) for route in item["routes"])
                for item in read_json(self._path)
            }
        except (OSError, ValueError, TypeError, KeyError):
            return {}  # not there yet, or torn: each app publishes its own again within seconds

    def save(self, known: Routes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            self._path,
            [
                {"project": app.project, "app": app.name, "routes": [asdict(route) for route in found]}
                for app, found in known.items()
            ],
            0o600,
            durable=False,
        )


def _route(value: Mapping[str, Any]) -> Route:
    return Route(value["host"], tuple(Server(**item) for item in value["servers"]), value["tcp_listen"])
