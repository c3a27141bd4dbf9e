"""Handing source code to the server: by its path on the same machine, else as a tar."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

from slipway.client import Client
from slipway.errors import Invalid
from slipway.wire import bodies

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def source_of(client: Client, directory: Path) -> bodies.Source:
    """Root on the server's machine names the directory; everybody else sends it."""
    if not directory.is_dir():
        raise Invalid(f"{directory} is not a directory", hint="name the directory that holds the sources")
    revision = _revision(directory)
    if client.is_local and os.geteuid() == 0:
        return bodies.Source(path=str(directory.resolve()), revision=revision)
    with tempfile.TemporaryFile() as spool:
        with tarfile.open(fileobj=spool, mode="w") as archive:
            archive.add(directory, arcname=".")
        spool.seek(0)
        return bodies.Source(upload=client.upload(spool), revision=revision)


def variables_of(directory: Path, files: tuple[str, ...]) -> dict[str, str]:
    """The environment variables that the Compose files mention, and no others."""
    names: set[str] = set()
    for name in files or COMPOSE_NAMES:
        try:
            names.update(_VARIABLE.findall((directory / name).read_text(errors="replace")))
        except OSError:
            continue
    return {name: os.environ[name] for name in sorted(names) if name in os.environ}


def _revision(directory: Path) -> str:
    """The commit the directory is at, with ``+`` when it has changes; empty without git."""
    try:
        commit = _git(directory, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if commit and _git(directory, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(directory: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *words], capture_output=True, text=True, timeout=5, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
