"""Roots of containers: the image's chain, an init layer, and what the container writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slipway.base import linux
from slipway.base.overlay import mount_overlay
from slipway.base.trees import remove_tree
from slipway.errors import Invalid
from slipway.layers import Entry
from slipway.oci import Digest
from slipway.snapshots.view import RootView

_STUB_MODE = 0o644


class Roots:
    """``<id>/{init,fs,work,chain}`` below one directory, for each container."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def mount(
        self,
        container: str,
        chain: Digest | None,
        lowers: Sequence[Path],
        view: Callable[[], RootView],
        target: Path,
        init: Mapping[str, bytes],
    ) -> None:
        if os.path.ismount(target):
            return
        base = self._of(container)
        base.mkdir(mode=0o700, exist_ok=True)
        (base / "chain").write_text(str(chain or ""))
        remove_tree(base / "init")  # it may be half made
        for part in ("init", "fs", "work"):
            (base / part).mkdir(exist_ok=True)
            (base / part).chmod(0o755)
        if init:
            with view() as below:
                make_stubs(base / "init", below, init)
        target.mkdir(parents=True, exist_ok=True)
        mount_overlay(target, [base / "init", *lowers], base / "fs", base / "work")

    def unmount(self, container: str, target: Path, keep_upper: bool) -> None:
        while os.path.ismount(target):
            linux.umount2(target, linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)
        with contextlib.suppress(FileNotFoundError):
            target.rmdir()
        if not keep_upper:
            remove_tree(self._of(container))

    def ids(self) -> list[str]:
        return sorted(os.listdir(self._directory))

    def chains(self) -> list[Digest]:
        """What the roots stand on."""
        found = []
        for name in self.ids():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if text := (self._directory / name / "chain").read_text():
                    found.append(Digest.parse(text))
        return found

    def _of(self, container: str) -> Path:
        if container in ("", ".", "..") or "/" in container:
            raise Invalid(f"not a container's id: {container!r}")
        return self._directory / container


def make_stubs(layer: Path, view: RootView, files: Mapping[str, bytes]) -> None:
    """Make ``files`` in an empty layer, to be covered by mounts. Parents are, and look, as they do in the image.

    Where the image has a symlink in place of a file, the file hides it: a mount there would follow it.
    """
    made: dict[Path, Entry] = {}
    for path, content in files.items():
        *parents, name = path.split("/")
        here, real = layer, ""
        for part in _real_parents(view, parents):
            here, real = here / part, f"{real}/{part}".lstrip("/")
            if not here.exists():
                here.mkdir()
                below = view.lstat(real)
                made[here] = below if below and below.kind == "dir" else Entry(real, "dir", 0o755)
        (here / name).write_bytes(content)
        (here / name).chmod(_STUB_MODE)
    for directory, entry in reversed(made.items()):
        _look_like(directory, entry)


def _real_parents(view: RootView, parents: Sequence[str]) -> list[str]:
    """Where the directories really are: an image may have a symlink for /etc."""
    real = ""
    for part in parents:
        here = f"{real}/{part}".lstrip("/")
        found = view.resolve(here)
        entry = view.lstat(found) if found is not None else None
        real = found if found is not None and entry is not None and entry.kind == "dir" else here
    return real.split("/") if real else []


def _look_like(directory: Path, entry: Entry) -> None:
    os.chown(directory, entry.uid, entry.gid)
    directory.chmod(entry.mode)
    for name, value in entry.xattrs.items():
        with contextlib.suppress(OSError):
            os.setxattr(directory, name, value)
    if entry.mtime:
        os.utime(directory, (entry.mtime, entry.mtime))
