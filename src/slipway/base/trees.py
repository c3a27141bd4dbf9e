"""Removing and measuring directory trees that others filled: however deep, however strange, and nothing beside them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PREFIX = ".removing-"


def remove_tree(path: Path) -> None:
    """Remove ``path`` whatever it is; nothing happens if it is not there. Symlinks are removed, never followed.

    Neither recursion nor a descriptor for each level: a directory found below is first moved up to the top, so a tree
    of any depth goes away. Can be cut off and begun again. Raises ``OSError`` for what cannot be removed.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    except PermissionError:  # only without root: make the directory readable, then once more
        os.chmod(path, 0o700)
        top = os.open(path, _DIRECTORY)
    except OSError:  # a file, or a symlink
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)


def disk_usage(*paths: Path) -> int:
    """Bytes on disk below ``paths``, each inode once. Blocks.

    By ``du``: no path is too long for it, and files may come and go meanwhile, which it complains about and goes on.
    """
    if not paths:
        return 0
    argv = ["du", "-scx", "-B1", "--", *map(str, paths)]
    done = subprocess.run(argv, capture_output=True, check=False)
    lines = done.stdout.splitlines()
    return int(lines[-1].split()[0]) if lines else 0


def _empty(top: int) -> None:
    if os.geteuid():
        os.fchmod(top, 0o700)
    todo = _unlink_files(top)
    count = 0
    while todo:
        name = todo.pop()
        fd = _opened(top, name)
        try:
            for child in _unlink_files(fd):
                try:
                    os.rmdir(child, dir_fd=fd)
                except OSError:
                    raised, count = _free(top, count)
                    if os.geteuid():
                        os.chmod(child, 0o700, dir_fd=fd)
                    os.rename(child, raised, src_dir_fd=fd, dst_dir_fd=top)
                    todo.append(raised)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)


def _opened(top: int, name: str) -> int:
    if os.geteuid():
        os.chmod(name, 0o700, dir_fd=top)
    return os.open(name, _DIRECTORY, dir_fd=top)


def _unlink_files(fd: int) -> list[str]:
    """Unlink all but the directories, whose names are returned."""
    directories = []
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if is_directory:
            directories.append(name)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
    return directories


def _free(top: int, count: int) -> tuple[str, int]:
    """A name that is free at the top, and where to go on looking for the next."""
    while True:
        name, count = f"{_PREFIX}{count}", count + 1
        try:
            os.lstat(name, dir_fd=top)
        except FileNotFoundError:
            return name, count
