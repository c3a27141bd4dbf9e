"""From files to a checked project."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slipway.base import linux
from slipway.compose.deploy import size
from slipway.compose.document import Sources, Value, parse
from slipway.compose.envfile import parse_env
from slipway.compose.errors import ComposeError
from slipway.compose.files import texts_of
from slipway.compose.merge import merge
from slipway.compose.model import Project, Service
from slipway.compose.mounts import volume_name
from slipway.compose.networks import DEFAULT
from slipway.compose.networks import networks as network_list
from slipway.compose.refusals import Refuse, located
from slipway.compose.services import service
from slipway.errors import Invalid, NotFound

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
MAX_FILES = 20
_TOP = {"name", "version", "services", "volumes", "networks", "configs", "secrets"}
_LATER = frozenset({"include", "models"})
_APP = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_LIMIT = 1024 * 1024


def find_files(directory: Path) -> list[str]:
    """The Compose file of a directory, and the override file beside it if there is one. Raises ``NotFound``."""
    for name in NAMES:
        if (directory / name).is_file():
            stem, _, ending = name.rpartition(".")
            beside = [f"{stem}.override.{item}" for item in (ending, "yaml", "yml")]
            return [name, *[item for item in beside if (directory / item).is_file()][:1]]
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
    refuse: Refuse = lambda model: (),
) -> Project:
    """The app that the Compose files below ``directory`` describe, later files laid over earlier ones.

    ``variables`` win over the directory's ``.env``. Every path in the files is relative to ``directory``, and files
    are read beneath it only. Raises ``ComposeError`` with file, line and caret for anything wrong in them,
    ``NotFound`` when there is none. ``refuse``: what the engine that is to run it cannot do is an error, too.
    """
    names = list(files) or find_files(directory)
    if len(names) > MAX_FILES:
        raise Invalid(f"{len(names)} Compose files are more than {MAX_FILES}")
    outside = dict(variables or {})
    values = {**_dot_env(directory, outside), **outside}
    sources = Sources()
    nodes = [parse(_compose_file(directory, item), item, sources) for item in names]
    node = nodes[0]
    for over in nodes[1:]:
        node = merge(sources, node, over)
    root = Value(sources, node, values, "")
    model = _project(root, directory, values, name, profiles)
    for refusal in refuse(model):
        raise located(root, refusal)
    return model


def _project(
    root: Value, directory: Path, values: Mapping[str, str], name: str, profiles: Collection[str]
) -> Project:
    top = root.fields(_TOP, _LATER)
    if "services" not in top or not top["services"].items():
        raise root.fail("there are no services", "the file needs `services:` with at least one")
    services = _services(top["services"], directory, values, profiles)
    if not services:
        raise root.fail("every service belongs to a profile that is not chosen", "name it with --profile")
    volumes = _volumes(top.get("volumes"))
    networks = network_list(top["networks"]) if "networks" in top else {}
    found: dict[str, dict[str, str]] = {
        key: texts_of(top[key], values, lambda path: read_beneath(directory, path), inline=key == "configs")
        for key in ("configs", "secrets")
        if key in top
    }
    entries = dict(top["services"].items())
    for key, item in services.items():
        _check(entries[key], item, entries, services, volumes)
        _check_names(entries[key], item, networks, found)
    app = name or (top["name"].text() if "name" in top else _normal(directory.resolve().name))
    if not _APP.fullmatch(app):
        raise top.get("name", root).fail(
            f"not an app name: {app[:60]!r}", "set `name:` to lower-case letters, digits and '-'"
        )
    extensions = {key: value.plain() for key, value in top.items() if key.startswith("x-")}
    ordered = _ordered(services, top["services"])
    return Project(
        app,
        ordered,
        tuple(volumes),
        extensions,
        networks,
        found.get("configs", {}),
        found.get("secrets", {}),
        {key: size for key, size in volumes.items() if size},
    )


def _normal(name: str) -> str:
    """A directory's name as an app's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")


def _compose_file(directory: Path, name: str) -> str:
    try:
        return read_beneath(directory, name)
    except OSError as error:
        raise NotFound(f"the Compose file {name!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ComposeError(f"the file cannot be read: {error}", file=name, line=1, column=1) from error


def read_beneath(directory: Path, name: str) -> str:
    """A text file below ``directory``; symlinks may not lead out. Raises ``OSError``, ``ValueError``.

    Nothing else is so much as opened: an archive may have brought a device, which would be the host's.
    """
    if "\0" in name:
        raise ValueError("its name holds a NUL character")
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = linux.openat2(root, name, os.O_PATH)
    finally:
        os.close(root)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        with open(f"/proc/self/fd/{place}", "rb") as handle:
            data = handle.read(_LIMIT + 1)
    finally:
        os.close(place)
    if len(data) > _LIMIT:
        raise ValueError(f"it has more than {_LIMIT} bytes")
    return data.decode("utf-8", "replace")


def _dot_env(directory: Path, outside: Mapping[str, str]) -> dict[str, str]:
    try:
        return parse_env(read_beneath(directory, ".env"), outside)
    except OSError:
        return {}
    except ValueError as error:
        line = re.match(r"line (\d+)", str(error))
        raise ComposeError(str(error), file=".env", line=int(line[1]) if line else 1, column=1) from error


def _services(
    value: Value, directory: Path, values: Mapping[str, str], profiles: Collection[str]
) -> dict[str, Service]:
    found = {}
    for key, item in value.items():
        fields = dict(item.items())
        wanted = [entry.text() for entry in fields["profiles"].each()] if "profiles" in fields else []
        if not wanted or set(wanted) & set(profiles):
            found[key] = service(key, item, values, lambda path: read_beneath(directory, path))
    return found


def _volumes(value: Value | None) -> dict[str, int]:
    """The declared volumes with their sizes; 0: it says none."""
    found: dict[str, int] = {}
    for key, item in value.items() if value is not None else ():
        volume_name(key, item)
        parts = item.fields({"labels", "driver"}, {"name", "external", "driver_opts"})
        if "driver" in parts:
            parts["driver"].choice("local")
        ours = parts["x-slipway"].fields({"size"}) if "x-slipway" in parts else {}
        found[key] = size(ours["size"]) if "size" in ours else 0
    return found


def _check(
    value: Value,
    item: Service,
    entries: Collection[str],
    services: Mapping[str, Service],
    volumes: Collection[str],
) -> None:
    """What one service says of others and of volumes."""
    for other, depends in item.depends_on.items():
        if other not in services and depends.required:
            why = "belongs to a profile that is not chosen" if other in entries else "is no service"
            raise value.fail_at_key(
                f"{item.name!r} depends on {other!r}, which {why}", "name a service of this file"
            )
    for mount in item.volumes:
        if mount.source and mount.source not in volumes:
            raise value.fail_at_key(
                f"{item.name!r} mounts the volume {mount.source!r}, which is not declared",
                f"add `{mount.source}:` under the top-level `volumes:`",
            )


def _check_names(
    value: Value, item: Service, networks: Collection[str], found: Mapping[str, Mapping[str, str]]
) -> None:
    """What a service says of networks, configs and secrets."""
    used = [("networks", name) for name in item.networks if name not in (*networks, DEFAULT)]
    used += [("configs", one.source) for one in item.configs if one.source not in found.get("configs", {})]
    used += [("secrets", one.source) for one in item.secrets if one.source not in found.get("secrets", {})]
    for kind, name in used:
        raise value.fail_at_key(
            f"{item.name!r} uses {name!r}, which is not declared",
            f"add `{name}:` under the top-level `{kind}:`",
        )


def _ordered(services: Mapping[str, Service], value: Value) -> dict[str, Service]:
    """Dependencies first. Raises for a cycle."""
    done: dict[str, Service] = {}
    entries = dict(value.items())

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in above:
            cycle = " → ".join([*above[above.index(name) :], name])
            raise entries[name].fail_at_key(f"the services depend on each other in a circle: {cycle}")
        if len(above) > 200:
            raise entries[name].fail_at_key("the chain of dependencies is longer than 200")
        item = services[name]
        known = {other: depends for other, depends in item.depends_on.items() if other in services}
        for other in known:
            visit(other, (*above, name))
        done[name] = replace(item, depends_on=known)

    for name in services:
        visit(name, ())
    return done
