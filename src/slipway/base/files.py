"""Files written like a database writes: complete and durable, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from slipway.base.ids import new_id


def fsync_directory(path: Path | str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def atomic_write(path: Path, data: bytes | str, mode: int = 0o644, *, durable: bool = True) -> None:
    """Replace ``path`` by ``data`` in one step; readers see the old or the new content, never a part."""
    raw = data.encode() if isinstance(data, str) else data
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as handle:
            handle.write(raw)
            handle.flush()
            os.fchmod(handle.fileno(), mode)
            if durable:
                os.fsync(handle.fileno())
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    if durable:
        fsync_directory(path.parent)


def make_once(path: Path, data: bytes, mode: int) -> None:
    """Make a file, or leave the one that is there: two processes that make it at the same time go on with the same."""
    mine = path.with_name(f".{path.name}.{new_id()}")
    atomic_write(mine, data, mode)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)
    finally:
        mine.unlink()
    fsync_directory(path.parent)


def write_json(path: Path, value: Any, mode: int = 0o644, *, durable: bool = True) -> None:
    atomic_write(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode, durable=durable)


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())
