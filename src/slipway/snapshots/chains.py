"""Committed layers on disk: published, found, removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from slipway.base import linux
from slipway.base.files import read_json, write_json
from slipway.base.ids import new_id
from slipway.base.trees import remove_tree
from slipway.errors import Invalid, NotFound
from slipway.oci import Digest

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Chains:
    """One directory a layer, named by the ChainID of the layer and all below it; never changed once it is there."""

    def __init__(self, root: Path) -> None:
        self._layers, self._tmp = root / "layers", root / "tmp"
        self._locks, self._unsettled = root / "locks", root / "unsettled"
        self._moving = threading.Lock()
        for directory in (self._layers, self._tmp, self._locks, self._unsettled):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def files(self, chain: Digest) -> Path:
        return self._layers / chain.hex / "fs"

    def has(self, chain: Digest) -> bool:
        return (self._layers / chain.hex).is_dir()

    def use(self, chain: Digest) -> bool:
        """Whether it is there; if so, it is young again for ``collect``."""
        with self._moving:
            try:
                os.utime(self._layers / chain.hex)
            except FileNotFoundError:
                return False
            return True

    def __iter__(self) -> Iterator[Digest]:
        for name in sorted(os.listdir(self._layers)):
            with contextlib.suppress(Invalid):  # not one of ours
                yield Digest("sha256", name)

    def parent(self, chain: Digest) -> Digest | None:
        try:
            text = read_json(self._layers / chain.hex / "meta.json")["parent"]
        except FileNotFoundError as error:
            raise NotFound(f"the snapshot {chain} is not unpacked") from error
        return Digest.parse(text) if text else None

    def stack(self, chain: Digest | None) -> list[Digest]:
        """The chain and all below it, top first. Raises ``NotFound`` if a part is missing."""
        found: list[Digest] = []
        while chain is not None:
            found.append(chain)
            chain = self.parent(chain)
        return found

    @contextlib.contextmanager
    def locked(self, chain: Digest) -> Iterator[None]:
        """One at a time makes or removes a chain; the others wait. The kernel lets go of it when we die."""
        path = self._locks / chain.hex
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # Whoever had it before has removed the file: then what we hold is a lock on nothing.
                if os.fstat(fd).st_nlink:
                    try:
                        yield
                    finally:
                        path.unlink()
                    return
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def making(self) -> Iterator[Path]:
        """A directory with an empty ``fs``, to be published; what is not published by the end goes away."""
        made = self._tmp / new_id()
        try:
            made.mkdir(mode=0o700)
            (made / "fs").mkdir()
            (made / "fs").chmod(0o755)
            yield made
        finally:
            remove_tree(made)

    def publish(self, made: Path, chain: Digest, parent: Digest | None, diff_id: Digest, size: int) -> None:
        """Let ``made`` (with its ``fs``) be the snapshot ``chain``; if there is one already, it is removed instead."""
        meta = {"parent": str(parent) if parent else "", "diff_id": str(diff_id), "size": size}
        write_json(made / "meta.json", meta, durable=False)
        # Before the rename, and on the same journal: no snapshot without its note survives a power failure.
        (self._unsettled / f"{chain.hex}.{new_id()}").write_text(_boot())
        os.utime(made)
        try:
            os.rename(made, self._layers / chain.hex)
        except OSError:
            if not self.has(chain):
                raise
            remove_tree(made)  # somebody else committed the same content first

    def remove(self, chain: Digest, unused_since: float = float("inf")) -> bool:
        """Remove one layer, unless it was used since; whether it is gone by this. Nothing may stand on it."""
        doomed, directory = self._tmp / new_id(), self._layers / chain.hex
        with self.locked(chain):
            try:
                with self._moving:
                    if directory.stat().st_mtime >= unused_since:
                        return False
                    os.rename(directory, doomed)
            except FileNotFoundError:
                return False
        remove_tree(doomed)
        return True

    def throw_away(self, path: Path) -> None:
        """Remove a directory that somebody may be about to ``publish``: one of the two renames it, so it is never a
        snapshot that is half removed."""
        doomed = self._tmp / new_id()
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, doomed)
            remove_tree(doomed)

    def collect(self, in_use: Iterable[Digest], grace: timedelta) -> int:
        """Remove what nobody used for ``grace`` and nothing stands on; how many that were."""
        end = time.time() - grace.total_seconds()
        below: dict[Digest, Digest | None] = {}
        kept = set(in_use)
        for chain in self:
            with contextlib.suppress(FileNotFoundError, NotFound):
                below[chain] = self.parent(chain)
                if (self._layers / chain.hex).stat().st_mtime >= end:
                    kept.add(chain)
        for chain in list(kept):
            parent = below.get(chain)
            while parent is not None and parent not in kept:
                kept.add(parent)
                parent = below.get(parent)
        return sum(self.remove(chain, end) for chain in _tops_first(below) if chain not in kept)

    def settle(self) -> None:
        """Write to disk what was published so far, so that it survives a power failure."""
        notes = os.listdir(self._unsettled)
        if not notes:
            return
        fd = os.open(self._layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            linux.syncfs(fd)
        finally:
            os.close(fd)
        for note in notes:
            (self._unsettled / note).unlink(missing_ok=True)

    def recover(self) -> None:
        """Remove what was half made, and what the machine may have lost by going down before it was on disk."""
        for directory in (self._tmp, self._locks):
            for path in directory.iterdir():
                remove_tree(path)
        boot = _boot()
        for note in self._unsettled.iterdir():
            if note.read_text() != boot:
                self.remove(Digest("sha256", note.name.partition(".")[0]))
                note.unlink()


def _tops_first(below: dict[Digest, Digest | None]) -> list[Digest]:
    """So that a kill on the way leaves nothing that stands on nothing."""
    height: dict[Digest, int] = {}
    for chain in below:
        way: list[Digest] = []
        here: Digest | None = chain
        while here is not None and here not in height:
            way.append(here)
            here = below.get(here)
        base = height[here] if here is not None else 0
        for number, item in enumerate(reversed(way), 1):
            height[item] = base + number
    return sorted(below, key=lambda chain: -height[chain])


def _boot() -> str:
    return _BOOT.read_text().strip()
