"""Devices of the host for a RUN: what a project was granted, and what the host's CDI files say it is.

A grant is ``device=NAME`` in the project's build policy, by the very name or by a whole class (``vendor.com/class``).
Of the Container Device Interface, nodes and variables are used; a device that needs mounts or hooks is refused, since a
hook is a program of the host's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.build.dockerfile import DeviceRequest
from slipway.build.sandbox import Device
from slipway.errors import Denied, NotFound, Unsupported

GRANT = "device="
_DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
_MAX_FILE = 4 * 1024 * 1024
_USED = ("deviceNodes", "env")


@dataclass(frozen=True, slots=True)
class Devices:
    """What a step gets. ``missing`` are the names of what it has to do without."""

    nodes: tuple[Device, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def devices_for(
    requests: Sequence[DeviceRequest], granted: Iterable[str], directories: Sequence[Path] = _DIRECTORIES
) -> Devices:
    """Raises ``Denied`` for a required device that was not granted, ``NotFound`` for one the host does not have.

    ``Unsupported`` for a device that needs more than nodes and variables. Blocks.
    """
    allowed = [item.removeprefix(GRANT) for item in granted if item.startswith(GRANT)]
    found = Devices()
    for request in requests:
        try:
            found = _with(found, request.name, allowed, directories)
        except (Denied, NotFound):
            if request.required:
                raise
            found = Devices(found.nodes, found.env, found.names, (*found.missing, request.name))
    return found


def no_devices(requests: Sequence[DeviceRequest], granted: Iterable[str]) -> Devices:
    """Where a step has no machine's devices, as in a Pod: what is not required is missing.

    Raises ``Denied`` for one that was not granted, ``Unsupported`` for any other.
    """
    allowed = [item.removeprefix(GRANT) for item in granted if item.startswith(GRANT)]
    for request in requests:
        if request.required:
            _require(request.name, allowed)
            raise Unsupported(
                f"RUN --device={request.name[:200]}: a step in a Pod has no device of its node",
                hint="build on a server's own machine (there, without --builder), or without ,required",
            )
    return Devices(missing=tuple(request.name for request in requests))


def _require(name: str, allowed: Sequence[str]) -> None:
    if not any(_covers(item, name) for item in allowed):
        raise Denied(
            f"RUN --device={name[:200]} is not allowed in this project",
            hint=f"an administrator grants it: slipway project build-policy PROJECT --allow {GRANT}{name}",
        )


def _with(found: Devices, name: str, allowed: Sequence[str], directories: Sequence[Path]) -> Devices:
    _require(name, allowed)
    if name.startswith("/dev/"):
        return Devices(
            (*found.nodes, _node(name, name)), found.env, (*found.names, name), found.missing
        )  # fmt: skip
    edits = _edits(name, directories)
    if not edits:
        raise NotFound(
            f"this machine has no device {name[:200]!r}",
            hint=f"its CDI file belongs into {' or '.join(map(str, directories))}",
        )
    nodes, env = list(found.nodes), list(found.env)
    for edit in edits:
        if other := sorted(key for key, value in edit.items() if value and key not in _USED):
            raise Unsupported(
                f"the device {name[:200]!r} needs {', '.join(other)}",
                hint="builds give a step nodes and variables of a device, and nothing else of the host",
            )
        for item in edit.get("deviceNodes") or ():
            nodes.append(_node(str(item["path"]), str(item.get("hostPath") or item["path"])))
        env += [
            (key, value) for key, _, value in (str(text).partition("=") for text in edit.get("env") or ())
        ]
    return Devices(tuple(nodes), tuple(env), (*found.names, name), found.missing)


def _covers(grant: str, name: str) -> bool:
    """A grant of a whole class is one of everything in it; one of a single device is none of its class."""
    return grant == name or ("=" not in grant and name.startswith(f"{grant}="))


def _node(path: str, host_path: str) -> Device:
    try:
        status = os.stat(host_path)
    except OSError as error:
        raise NotFound(f"this machine has no {host_path[:200]}: {error.strerror}") from error
    if not stat.S_ISCHR(status.st_mode) or not os.path.normpath(path).startswith("/dev/"):
        raise Unsupported(
            f"{host_path[:200]} is no character device for a place below /dev",
            hint="a disk is never given to a build",
        )
    return Device(os.path.normpath(path), os.major(status.st_rdev), os.minor(status.st_rdev))


def _edits(name: str, directories: Sequence[Path]) -> list[dict[str, Any]]:
    """The container edits of the device, and those that its whole file has."""
    kind, _, wanted = name.partition("=")
    found: list[dict[str, Any]] = []
    for file in (path for directory in directories for path in sorted(directory.glob("*"))):
        if file.suffix not in (".json", ".yaml", ".yml") or file.stat().st_size > _MAX_FILE:
            continue
        try:
            text = file.read_text()
            specification = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
            if specification.get("kind") != kind:
                continue
            devices = [dict(item) for item in specification.get("devices") or ()]
            chosen = [item for item in devices if wanted in ("", "*", str(item.get("name")))]
            chosen = chosen if wanted else chosen[:1]
            found += [dict(item.get("containerEdits") or {}) for item in chosen]
            if chosen and specification.get("containerEdits"):
                found.append(dict(specification["containerEdits"]))
        except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
            raise NotFound(f"the CDI file {file} cannot be read: {error}"[:300]) from error
    return found
