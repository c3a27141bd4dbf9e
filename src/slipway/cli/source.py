"""Handing source code to the server: by its path on the same machine, else as a tar.

What only the others need is imported by them: the commonest build should not wait for it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from slipway.client import Client
from slipway.errors import Invalid
from slipway.wire import bodies

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_REPOSITORY = re.compile(r"(?:https?|git|ssh)://|git@[^/\s]+:|github\.com/")
_IMAGE = "docker-image://"
_LAYOUT = "oci-layout://"
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_TAR_HEAD = 512
_MAX_DOCKERFILE = 16 * 1024 * 1024
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def is_repository(word: str) -> bool:
    """Whether a word names a git repository, which the server fetches itself."""
    return bool(_REPOSITORY.match(word)) and not Path(word).exists()


def standard_input(client: Client) -> tuple[bodies.Source, str | None]:
    """``-`` instead of a directory: a tar of any compression, or a Dockerfile alone, which comes back as text."""
    import shutil
    import tarfile
    import tempfile

    with tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool, 1 << 20)
        spool.seek(0)
        head = spool.read(_TAR_HEAD)
        spool.seek(0)
        if head.startswith(_PACKED) or head[257:262] == b"ustar":
            return bodies.Source(upload=client.upload(spool)), None
        text = spool.read(_MAX_DOCKERFILE).decode(errors="surrogateescape")
    with tempfile.TemporaryFile() as empty:
        tarfile.open(fileobj=empty, mode="w").close()
        empty.seek(0)
        return bodies.Source(upload=client.upload(empty)), text


def read_contexts(client: Client, values: tuple[str, ...]) -> dict[str, bodies.NamedContext]:
    """``--build-context NAME=DIRECTORY|docker-image://IMAGE|oci-layout://PATH[:TAG|@DIGEST]|REPOSITORY``."""
    found: dict[str, bodies.NamedContext] = {}
    for value in values:
        name, equals, what = value.partition("=")
        if not name or not equals or not what:
            raise Invalid(
                f"not a context: {value!r}", hint="write NAME=DIRECTORY or NAME=docker-image://IMAGE"
            )
        if what.startswith(_IMAGE):
            found[name] = bodies.NamedContext(image=what.removeprefix(_IMAGE))
        elif what.startswith(_LAYOUT):
            path, named = _layout(what.removeprefix(_LAYOUT))
            found[name] = bodies.NamedContext(source=source_of(client, path), layout=named)
        elif is_repository(what):
            found[name] = bodies.NamedContext(source=bodies.Source(git=what))
        else:
            found[name] = bodies.NamedContext(source=source_of(client, Path(what)))
    return found


def _layout(text: str) -> tuple[Path, str]:
    """The directory of an OCI layout, and the tag or digest behind it."""
    path, at, digest = text.partition("@")
    if at:
        return Path(path), digest
    path, colon, tag = text.rpartition(":")
    return (Path(path), tag) if colon and "/" not in tag else (Path(text), "")


def source_of(client: Client, directory: Path) -> bodies.Source:
    """Root on the server's machine names the directory; everybody else sends it."""
    if not directory.is_dir():
        raise Invalid(f"{directory} is not a directory", hint="name the directory that holds the sources")
    revision = _revision(directory)
    if client.is_local and os.geteuid() == 0:
        return bodies.Source(path=str(directory.resolve()), revision=revision)
    import tarfile
    import tempfile

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
    whole = directory.absolute()
    if "GIT_DIR" not in os.environ and not any((path / ".git").exists() for path in (whole, *whole.parents)):
        return ""
    import subprocess

    try:
        commit = _git(directory, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if commit and _git(directory, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(directory: Path, *words: str) -> str:
    import subprocess

    done = subprocess.run(
        ["git", "-C", str(directory), *words], capture_output=True, text=True, timeout=5, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
