"""From files to a checked project."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slipway.base import linux
from slipway.compose.document import Value, parse
from slipway.compose.model import Project, Service
from slipway.compose.services import parse_env, service
from slipway.errors import Invalid, NotFound

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_TOP = {"name", "version", "services", "volumes"}
_LATER = frozenset({"include", "networks", "configs", "secrets", "models"})
_PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_LIMIT = 1024 * 1024


def find_files(directory: Path) -> list[str]:
    """The Compose file of a directory. Raises ``NotFound``."""
    for name in NAMES:
        if (directory / name).is_file():
            return [name]
    raise NotFound(
        f"there is no Compose file in {directory}", hint=f"write a {NAMES[0]}, or name the file with -f"
    )


def load(
    directory: Path,
    files: Sequence[str] = (),
    *,
    variables: Mapping[str, str] | None = None,
    name: str = "",
    profiles: Collection[str] = (),
) -> Project:
    """The app that the Compose file below ``directory`` describes.

    Raises ``ComposeError`` with file, line and caret for anything wrong in it, ``NotFound`` when there is none. Files
    are read beneath the directory only.
    """
    names = list(files) or find_files(directory)
    if len(names) > 1:
        raise Invalid("merging several Compose files is not supported yet", hint="name one with -f")
    values = {**dict(_optional_env(directory)), **(variables or {})}
    try:
        text = read_beneath(directory, names[0])
    except OSError as error:
        raise NotFound(f"the Compose file {names[0]!r} cannot be read: {error.strerror}") from error
    root = parse(text, names[0], values)
    top = root.fields(_TOP, _LATER)
    if "services" not in top or not top["services"].items():
        raise root.fail("there are no services", "the file needs `services:` with at least one")
    services = _services(top["services"], directory, profiles)
    volumes = _volumes(top.get("volumes"))
    for key, value in top["services"].items():
        if key in services:
            _check(value, services[key], services, volumes)
    app = name or (top["name"].text() if "name" in top else directory.resolve().name.lower())
    if not _PROJECT.fullmatch(app):
        raise root.fail(f"not an app name: {app[:60]!r}", "set `name:` to lower-case letters, digits and '-'")
    extensions = {key: value.plain() for key, value in top.items() if key.startswith("x-")}
    return Project(app, _ordered(services, top["services"]), tuple(volumes), extensions)


def read_beneath(directory: Path, name: str) -> str:
    """A text file below ``directory``; symlinks may not lead out."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = linux.openat2(root, name, os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(root)
    with os.fdopen(fd, "rb") as handle:
        return handle.read(_LIMIT + 1).decode("utf-8", "replace")


def _optional_env(directory: Path) -> list[tuple[str, str]]:
    try:
        return parse_env(read_beneath(directory, ".env"))
    except OSError:
        return []


def _services(value: Value, directory: Path, profiles: Collection[str]) -> dict[str, Service]:
    found = {}
    for key, item in value.items():
        fields = dict(item.items())
        wanted = [entry.text() for entry in fields["profiles"].each()] if "profiles" in fields else []
        if not wanted or set(wanted) & set(profiles):
            found[key] = service(key, item, lambda path: read_beneath(directory, path))
    return found


def _volumes(value: Value | None) -> list[str]:
    if value is None:
        return []
    for _, item in value.items():
        item.fields({"name", "labels", "driver"}, frozenset({"external", "driver_opts"}))
    return [key for key, _ in value.items()]


def _check(value: Value, item: Service, services: Mapping[str, Service], volumes: Collection[str]) -> None:
    for other, depends in item.depends_on.items():
        if other not in services and depends.required:
            raise value.fail(
                f"{item.name!r} depends on {other!r}, which is no service", "name a service of this file"
            )
        target = services.get(other)
        check = target.healthcheck if target else None
        if (
            depends.condition == "service_healthy"
            and target
            and not target.build
            and not target.image
            and not check
        ):
            raise value.fail(f"{other!r} has no health check to wait for")
    for mount in item.volumes:
        if mount.kind == "volume" and mount.source and mount.source not in volumes:
            raise value.fail(
                f"the volume {mount.source!r} is not declared",
                f"add it under `volumes:`, or write ./{mount.source}",
            )


def _ordered(services: Mapping[str, Service], value: Value) -> dict[str, Service]:
    """Dependencies first. Raises for a cycle."""
    done: dict[str, Service] = {}
    visiting: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in visiting:
            cycle = " → ".join([*visiting[visiting.index(name) :], name])
            raise value.fail(f"the services depend on each other in a circle: {cycle}")
        visiting.append(name)
        for other in services[name].depends_on:
            if other in services:
                visit(other)
        visiting.pop()
        item = services[name]
        known = {other: item.depends_on[other] for other in item.depends_on if other in services}
        done[name] = replace(item, depends_on=known)

    for name in services:
        visit(name)
    return done
