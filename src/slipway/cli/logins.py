"""The logins of docker and podman on this machine, for those registries that are asked for by name."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from slipway.errors import Invalid

_HELPER_SECONDS = 30


def login_of(host: str) -> tuple[str, str] | None:
    """User and password for a registry; ``None`` when nobody logged in to it here."""
    for path in _files():
        document = _read(path)
        helper = (document.get("credHelpers") or {}).get(host)
        entry = (document.get("auths") or {}).get(host)
        if helper or (entry == {} and (helper := document.get("credsStore"))):
            return _from_helper(str(helper), host)
        if entry and entry.get("auth"):
            try:
                name, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
            except ValueError as error:
                raise Invalid(
                    f"{path}: the login for {host} is damaged", hint=f"docker login {host}"
                ) from error
            if colon:
                return name, password
    return None


def read_logins(hosts: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """``--registry-login HOST``. Raises ``Invalid`` for a registry without a login."""
    found = {}
    for host in hosts:
        login = login_of(host)
        if login is None:
            raise Invalid(f"there is no login for {host} on this machine", hint=f"docker login {host}")
        found[host] = {"username": login[0], "password": login[1]}
    return found


def _files() -> list[Path]:
    """Where docker and podman keep logins, the more particular first."""
    given = os.environ.get("REGISTRY_AUTH_FILE")
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    names = [docker, Path(runtime) / "containers/auth.json", Path.home() / ".config/containers/auth.json"]
    if os.getuid() == 0:
        names.append(Path("/run/containers/0/auth.json"))
    return [Path(given)] if given else names


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _from_helper(helper: str, host: str) -> tuple[str, str] | None:
    """Docker's credential helper protocol: the host on standard input, a JSON document back."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"], input=host.encode(), capture_output=True, check=False,
            timeout=_HELPER_SECONDS,
        )  # fmt: skip
        value = json.loads(done.stdout)
        return str(value["Username"]), str(value["Secret"])
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return None
