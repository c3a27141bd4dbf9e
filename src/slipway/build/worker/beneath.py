"""Paths of a root, resolved by the kernel inside it."""

from __future__ import annotations

import contextlib
import os
import posixpath

from slipway.base import linux

_PATH = os.O_PATH | os.O_CLOEXEC
INSIDE = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS


def find(root: int, path: str, follow: bool = True) -> int:
    """What is at ``path`` below ``root``. A final symlink is it itself without ``follow``, or if dangling."""
    if follow:
        with contextlib.suppress(FileNotFoundError):
            return linux.openat2(root, path, _PATH, resolve=INSIDE)
    return linux.openat2(root, path, _PATH | os.O_NOFOLLOW, resolve=INSIDE)


def exists(root: int, path: str) -> bool:
    try:
        os.close(find(root, path))
    except FileNotFoundError:
        return False
    return True


def real_path(root: int, path: str) -> list[str]:
    """``path`` with the symlinks resolved in the part of it that exists."""
    parts = posixpath.normpath(f"/{path}").strip("/").split("/")
    for length in range(len(parts) - 1, -1, -1):
        try:
            fd = linux.openat2(root, "/".join(parts[:length]) or ".", _PATH | os.O_DIRECTORY, resolve=INSIDE)
        except FileNotFoundError:
            continue
        here, top = (os.readlink(f"/proc/self/fd/{number}") for number in (fd, root))
        os.close(fd)
        return [*(part for part in os.path.relpath(here, top).split("/") if part != "."), *parts[length:]]
    raise FileNotFoundError(path)
