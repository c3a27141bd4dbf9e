"""What a step asks to see besides its layers: directories, other trees, memory, small files.

Three times are kept apart. ``open_sources`` takes hold of the server's paths while they can still be reached;
``prepare`` turns each into one mount that is nowhere yet, below the staging area; ``attach`` puts them in their places,
after the system's own mounts, so that a step can have a file below /dev, too.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from slipway.base import linux
from slipway.build.worker.beneath import find, real_path

_CLONE = linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SAFE = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
Detach = Callable[..., int]


class Mount:
    """One mount of a step: first its ``sources``, then the ``fd`` of what will be at ``target``."""

    __slots__ = ("fd", "sources", "specification")

    def __init__(self, specification: dict[str, Any], sources: list[int]) -> None:
        self.specification, self.sources, self.fd = specification, sources, -1

    @property
    def target(self) -> str:
        return str(self.specification["target"])

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(os.fstat(self.fd).st_mode)


def open_sources(specifications: list[dict[str, Any]], detached: Detach) -> list[Mount]:
    """``detached(path, read_only, mapped)`` makes a mount of a path of the server's that is nowhere yet."""
    found = []
    for item in specifications:
        if item["kind"] == "bind":
            sources = [detached(item["source"], item["read_only"], item["mapped"])]
        else:
            sources = [detached(path) for path in item.get("lowers", ())]
        found.append(Mount(item, sources))
    return found


class Staging:
    """Where ``prepare`` works: the current directory. ``above`` is a directory on the upper's disk, here and open."""

    __slots__ = ("above", "above_fd", "base", "overlay")

    def __init__(
        self, above: str, above_fd: int, base: int, overlay: Callable[[list[str], str, str, str], None]
    ) -> None:
        self.above, self.above_fd, self.base, self.overlay = above, above_fd, base, overlay


def prepare(mounts: list[Mount], staging: Staging) -> None:
    kinds = {"bind": _bind, "layers": _layers, "tmpfs": _tmpfs, "file": _file}
    for index, mount in enumerate(mounts):
        mount.fd = kinds[mount.specification["kind"]](mount, f"m{index}", staging)


def _bind(mount: Mount, name: str, staging: Staging) -> int:
    return mount.sources[0]


def _layers(mount: Mount, name: str, staging: Staging) -> int:
    """A tree of layers, or a part of it; writes go to a directory that is thrown away."""
    os.mkdir(name)
    lowers = []
    for index, fd in enumerate(mount.sources):
        lowers.append(f"{name}/{index}")
        os.mkdir(lowers[-1])
        linux.move_mount(fd, linux.AT_FDCWD, lowers[-1])
        os.close(fd)
    root = f"{name}/root"
    os.mkdir(root)
    for suffix in ("", "/up", "/work"):
        os.mkdir(f"{name}{suffix}", 0o755, dir_fd=staging.above_fd)
    above = f"{staging.above}/{name}"
    staging.overlay(lowers, f"{above}/up", f"{above}/work", root)
    tree = os.open(root, _DIRECTORY)
    source = mount.specification["source"]
    try:
        part = find(tree, source)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {source} in what is mounted at {mount.target}") from None
    finally:
        os.close(tree)
    try:
        return _cloned(part, _SAFE | (0 if mount.specification["read_write"] else linux.MOUNT_ATTR_RDONLY))
    finally:
        os.close(part)


def _tmpfs(mount: Mount, name: str, staging: Staging) -> int:
    os.mkdir(name)
    options = f"mode=1777,uid={staging.base},gid={staging.base}"
    if mount.specification["size"]:
        options += f",size={mount.specification['size']}"
    linux.mount("tmpfs", name, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
    return linux.open_tree(linux.AT_FDCWD, name, _CLONE)


def _file(mount: Mount, name: str, staging: Staging) -> int:
    """A small file, in memory only."""
    item = mount.specification
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        data = memoryview(base64.b64decode(item["content"]))
        while data:
            data = data[os.write(fd, data) :]
        os.fchown(fd, staging.base + item["uid"], staging.base + item["gid"])
        os.fchmod(fd, item["mode"])
    finally:
        os.close(fd)
    made = linux.open_tree(linux.AT_FDCWD, name, _CLONE)
    linux.mount_setattr(made, _SAFE | linux.MOUNT_ATTR_RDONLY)
    return made


def _cloned(fd: int, attributes: int) -> int:
    made = linux.open_tree(linux.AT_FDCWD, f"/proc/self/fd/{fd}", _CLONE)
    linux.mount_setattr(made, attributes)
    return made


def attach(root: int, mounts: list[Mount], base: int) -> None:
    """Put every mount in its place, in order: a later one may lie inside an earlier one."""
    for mount in mounts:
        try:
            point = find(root, mount.target)
        except FileNotFoundError:
            point = _made_inside(root, mount, base)
        linux.move_mount(mount.fd, point)
        os.close(point)
        os.close(mount.fd)


def _made_inside(root: int, mount: Mount, base: int) -> int:
    """A place inside an earlier mount, which stays there if that is kept, as in any engine."""
    parts = real_path(root, mount.target)
    here = os.dup(root)
    try:
        with acting_as(base):
            for index, part in enumerate(parts):
                if index < len(parts) - 1 or mount.is_directory:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=here)
                    below = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                else:
                    flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                    below = os.open(part, flags, 0o644, dir_fd=here)
                os.close(here)
                here = below
    except OSError as error:
        os.close(here)
        raise OSError(
            error.errno, f"{mount.target} lies in another mount and cannot be made there: {error.strerror}"
        ) from error
    return here


@contextlib.contextmanager
def acting_as(base: int) -> Iterator[None]:
    """This process's new files belong to the build's root; the capabilities that this would cost are kept."""
    linux.prctl(linux.PR_SET_SECUREBITS, linux.SECBIT_NO_SETUID_FIXUP)
    linux.set_file_system_ids(base, base)
    try:
        yield
    finally:
        linux.set_file_system_ids(0, 0)
        linux.prctl(linux.PR_SET_SECUREBITS, 0)
