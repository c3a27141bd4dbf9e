"""The root of a RUN: the layers below, a writable directory above, and somewhere to mount everything else."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from slipway.base import linux
from slipway.build.worker import mounts
from slipway.build.worker.beneath import INSIDE, exists, find, real_path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CLONE = linux.OPEN_TREE_CLONE | linux.OPEN_TREE_CLOEXEC
_STUBS, _WORK = "stubs", "overlay"  # both below the work directory, which its owner removes as a whole
_UPPER, _PROBE, _ROOT, _EMPTY = "up", "probe", "root", "empty"


class Root:
    """Mounts in this process's private mount namespace; the working directory becomes the staging area.

    Mount points the image lacks are made in a layer of *stubs* between the image and the upper directory, with the
    image's own metadata on the directories that lead there, so that none of it ever shows in the upper directory.
    """

    def __init__(self, specification: dict[str, Any], user_ns: int) -> None:
        self._specification = specification
        self._user_ns = user_ns
        upper, work = specification["upper"], specification["work"]
        self._home = os.path.commonpath([upper, work])
        self._upper, self._work = os.path.relpath(upper, self._home), os.path.relpath(work, self._home)
        self._mounts: list[mounts.Mount] = []
        self.fd = -1

    def mount(self) -> None:
        """Everything up to the overlay; what the step asks for besides waits for ``attach``."""
        lowers = [self._detached(path) for path in self._specification["lowers"]]
        self._mounts = mounts.open_sources(self._specification["mounts"], self._detached)
        upper = self._detached(self._home)
        work = os.open(self._specification["work"], _DIRECTORY)
        os.mkdir(_WORK, 0o755, dir_fd=work)
        # The step's own directory is the staging area: it exists, and nothing has to be cleaned up elsewhere.
        linux.mount("tmpfs", self._home, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=64m")
        os.chdir(self._home)
        names = [f"l{index}" for index in range(len(lowers))]
        for fd, name in zip((*lowers, upper), (*names, _UPPER), strict=True):
            os.mkdir(name)
            linux.move_mount(fd, linux.AT_FDCWD, name)
            os.close(fd)
        for name in (_EMPTY, _PROBE, _ROOT):
            os.mkdir(name)
        above = f"{_UPPER}/{self._work}"
        mounts.prepare(self._mounts, mounts.Staging(above, work, self._base, self._mount_overlay))
        if self._make_stubs(work, names):
            names.insert(0, f"{above}/{_STUBS}")
        os.close(work)
        self._mount_overlay(names, f"{_UPPER}/{self._upper}", f"{above}/{_WORK}", _ROOT)
        self.fd = os.open(_ROOT, _DIRECTORY)

    def attach(self) -> None:
        """Mount what the step asks for, over everything that is there by now."""
        mounts.attach(self.fd, self._mounts, self._base)

    @property
    def _base(self) -> int:
        return int(self._specification["uid_base"])

    @property
    def _nested(self) -> bool:
        """Whether the worker itself is in a user namespace: ids on disk are then as they are in there."""
        return bool(self._specification["nested"])

    def _options(self, data: str) -> str:
        """What a user namespace allows: attributes of the user's, and none that lead elsewhere."""
        allowed = data.replace("redirect_dir=off", "redirect_dir=nofollow,userxattr")
        return allowed if linux.in_user_namespace() else data

    def _detached(self, path: str, read_only: bool = False, mapped: bool = True) -> int:
        """A mount of ``path`` that is nowhere yet, with the ids on disk shifted into the user namespace."""
        mapped = mapped and not self._nested
        fd = linux.open_tree(linux.AT_FDCWD, path, _CLONE)
        flags = (linux.MOUNT_ATTR_IDMAP if mapped else 0) | (linux.MOUNT_ATTR_RDONLY if read_only else 0)
        flags |= linux.MOUNT_ATTR_NODEV
        linux.mount_setattr(fd, flags, userns_fd=self._user_ns if mapped else 0)
        return fd

    def _mount_overlay(self, lowers: list[str], upper: str, work: str, target: str) -> None:
        # ``volatile``: no sync of the whole file system at the end, and none for what the command syncs. A step that
        # was cut off is thrown away anyhow; what is kept becomes durable when the layer's blob is stored.
        data = linux.overlay_data(lowers or [_EMPTY], upper, work)
        # An overlay makes its internal files as whoever mounted it, and the machine's root has no id in an id-mapped
        # directory.
        with mounts.acting_as(self._base):
            linux.mount("overlay", target, "overlay", linux.MS_NODEV, f"{self._options(data)},volatile")

    # Mount points

    def find(self, path: str, *, follow: bool = True) -> int:
        """What is at ``path`` inside the root. A final symlink is it itself without ``follow``, or if dangling."""
        return find(self.fd, path, follow)

    def _make_stubs(self, work: int, lowers: list[str]) -> bool:
        """Make the mount points that the image lacks; whether there are any."""
        data = linux.overlay_data([_EMPTY, *lowers])
        if lowers:
            flags = linux.MS_RDONLY | linux.MS_NODEV
            linux.mount("overlay", _PROBE, "overlay", flags, self._options(data))
        image = os.open(_PROBE, _DIRECTORY)
        wanted = [(name, True) for name in ("proc", "sys", "dev")]
        wanted += [(f"etc/{name}", False) for name in self._specification["files"]]
        wanted += [(mount.target, mount.is_directory) for mount in self._mounts]
        missing = [(path, directory) for path, directory in wanted if not exists(image, path)]
        if missing:
            os.mkdir(_STUBS, 0o755, dir_fd=work)
            stubs = os.open(_STUBS, _DIRECTORY, dir_fd=work)
            for path, directory in missing:
                self._make_stub(stubs, image, path, directory)
            os.close(stubs)
        os.close(image)
        if lowers:
            linux.umount2(_PROBE, linux.MNT_DETACH)
        return bool(missing)

    def _make_stub(self, stubs: int, image: int, path: str, directory: bool) -> None:
        parts = real_path(image, path)
        here = os.dup(stubs)
        for index, part in enumerate(parts):
            if index == len(parts) - 1 and not directory:
                os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=here))
                break
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=here)
            below = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
            self._copy_metadata(image, "/".join(parts[: index + 1]), here)
        os.close(here)

    def _copy_metadata(self, image: int, path: str, stub: int) -> None:
        """Let a stub directory look like the image's, since it is what a copy into the upper directory is made of."""
        try:
            fd = linux.openat2(image, path, _DIRECTORY, resolve=INSIDE)
        except FileNotFoundError:
            return
        found, base = os.fstat(fd), self._base
        for name in os.listxattr(fd):
            if not name.startswith("trusted.overlay."):
                with contextlib.suppress(OSError):
                    os.setxattr(stub, name, os.getxattr(fd, name))
        os.close(fd)
        os.fchown(stub, max(found.st_uid - base, 0), max(found.st_gid - base, 0))
        os.fchmod(stub, stat.S_IMODE(found.st_mode))
        os.utime(stub, ns=(found.st_atime_ns, found.st_mtime_ns))

    def enter(self) -> None:
        """Make this the root of the mount namespace and let go of everything else."""
        os.close(self.fd)
        os.chdir(_ROOT)
        linux.pivot_root(".", ".")
        linux.umount2(".", linux.MNT_DETACH)
        os.chdir("/")
