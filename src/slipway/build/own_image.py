"""Images of ourselves: a small Debian with Python, and the packages that this very server runs from.

So they need no network but the distribution's packages, once, and both ends of a channel are always the same version.
"""

from __future__ import annotations

import compileall
import hashlib
import importlib.metadata
import os
import py_compile
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import slipway
from slipway import __version__
from slipway.base.clock import iso, now
from slipway.content import ContentStore
from slipway.errors import Unsupported
from slipway.layers import Entry, Layer, diff_upper, write_layer
from slipway.oci import HistoryEntry, ImageConfig

PYTHON = (3, 11)
"""What Debian bookworm has, and the packages were compiled for."""
PACKAGES = ("python3", "ca-certificates")
"""Of Debian, in the root that workers stand on."""
_LIBRARY = "opt/slipway/lib"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[(?P<extras>[^\]]*)\])?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]*)['\"]")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "testing", "*.pyc")


@dataclass(frozen=True, slots=True)
class OwnImage:
    """``name`` is its repository; ``needed`` are the distributions to take along, with what they need themselves.

    ``base`` is the repository of the small Debian with ``packages`` that it stands on.
    """

    name: str
    needed: tuple[str, ...]
    entrypoint: tuple[str, ...]
    base: str = "slipway-worker-base"
    packages: tuple[str, ...] = PACKAGES


@dataclass(frozen=True, slots=True)
class PackagedImage:
    """A small Debian with ``packages`` and nothing of ours; ``name`` is its repository."""

    name: str
    packages: tuple[str, ...]


DOCKER = PackagedImage("slipway-docker", ("docker.io", "iptables", "ca-certificates"))
"""What Docker in Docker is started from where nobody names another image."""
PLATFORM = OwnImage(
    "slipway", ("slipway",), ("python3", "-m", "slipway.cli"), "slipway-base", (*PACKAGES, "git")
)
"""An API server fetches repositories; workers, of whom there are many, are given what it fetched."""


@cache
def tag(image: OwnImage) -> str:
    """What this version's image is called: other packages, another name. Reads a few megabytes, once."""
    hasher = hashlib.sha256(" ".join(image.packages).encode())
    root = Path(slipway.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if "testing" not in path.relative_to(root).parts:
            hasher.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    for item in distributions(image.needed):
        hasher.update(f"{item.name} {item.version}\n".encode())
    return f"{__version__}-{hasher.hexdigest()[:12]}"


def own_config(image: OwnImage, base: ImageConfig, layer: Layer) -> ImageConfig:
    created = iso(now())
    config = base.with_config(
        Env=[*(base.config.get("Env") or []), f"PYTHONPATH=/{_LIBRARY}", "PYTHONDONTWRITEBYTECODE=1"],
        Entrypoint=list(image.entrypoint),
        Cmd=None,
    )
    return replace(
        config, diff_ids=(*base.diff_ids, layer.diff_id), created=created,
        history=(*base.history, HistoryEntry(f"slipway {__version__}", created)),
    )  # fmt: skip


def own_layer(image: OwnImage, blobs: ContentStore) -> Layer:
    """The layer with our packages, compiled, below /opt. Blocks for some seconds.

    Raises ``Unsupported`` when this server's Python is not the image's.
    """
    if sys.version_info[:2] != PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        raise Unsupported(
            f"the image has Python 3.11, and this server runs on {found}: its packages do not fit",
            hint="run the server on Python 3.11",
        )
    packages = distributions(image.needed)
    if not packages:
        raise Unsupported(
            "this server runs from such an image itself, which does not say what it was made of",
            hint="make the image on a machine where Slipway is installed: slipway install image",
        )
    with tempfile.TemporaryDirectory(prefix="slipway-image-", dir="/var/tmp") as directory:
        library = Path(directory) / _LIBRARY
        library.mkdir(parents=True)
        shutil.copytree(Path(slipway.__file__).parent, library / "slipway", ignore=_LEFT_OUT)
        for item in packages:
            for file in item.files or ():
                if ".." not in file.parts and file.suffix != ".pyc":
                    target = library / file
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(Path(str(item.locate_file(file))), target)
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(
            library, quiet=2, invalidation_mode=mode, stripdir=directory, prependdir="/", workers=0
        )
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return write_layer(blobs, _plain(diff_upper(fd)))
        finally:
            os.close(fd)


def _plain(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Readable by everybody, owned by root: who runs it is somebody else."""
    for entry in entries:
        mode = 0o755 if entry.kind == "dir" or entry.mode & 0o111 else 0o644
        yield entry.owned(mode, 0, 0)


def distributions(needed: Sequence[str]) -> list[importlib.metadata.Distribution]:
    """What ``needed`` import that is not ours, each once."""
    found: dict[str, importlib.metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(name, "") for name in needed]
    while pending:
        name, extra = pending.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or version of Python
        for text in found[name].requires or ():
            match, wanted = _REQUIREMENT.match(text), _EXTRA.search(text)
            if match is not None and (wanted[1] if wanted else "") == extra:
                below = match["name"].lower().replace("_", "-")
                extras = (match["extras"] or "").split(",")
                pending += [(below, ""), *((below, item.strip()) for item in extras if item.strip())]
    return [found[name] for name in sorted(found) if name != "slipway"]
