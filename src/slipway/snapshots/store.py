"""The snapshots on a local disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.base import linux
from slipway.base.files import fsync_directory, read_json, write_json
from slipway.base.ids import new_id
from slipway.content import LocalStore
from slipway.errors import Invalid, NotFound
from slipway.layers import Compression, Layer, apply_layer, diff_upper, write_layer
from slipway.oci import Digest, MediaType, chain_id
from slipway.snapshots.chain import LayerRef
from slipway.snapshots.view import RootView


@dataclass(frozen=True, slots=True)
class Active:
    """An upper directory in the making over ``parent``. ``upper`` and ``work`` are on one file system."""

    id: str
    upper: Path
    work: Path
    parent: Digest | None


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of an active snapshot; ``layer`` is ``None`` when nothing was changed."""

    chain: Digest | None
    layer: Layer | None


class SnapshotStore:
    """Everything blocks: call it from a thread. Safe for any number of threads and for a kill at any time."""

    def __init__(self, root: Path, blobs: LocalStore) -> None:
        self._blobs = blobs
        self.root = root
        self._layers, self._short, self._active = root / "layers", root / "short", root / "active"
        self._containers, self._tmp = root / "containers", root / "tmp"
        for directory in (self._layers, self._short, self._active, self._containers, self._tmp):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def recover(self) -> None:
        """Remove what a killed server left half done. Nothing else may use the store yet."""
        for directory in (self._active, self._tmp):
            for path in directory.iterdir():
                _remove(path)

    # Chains

    def ensure(self, layers: Sequence[LayerRef]) -> Digest | None:
        """Unpack what is missing of a stack of layers, bottom first, and return its ChainID.

        Raises ``Invalid`` for a layer whose content is not what its diff id says.
        """
        done: list[LayerRef] = []
        chain: Digest | None = None
        for layer in layers:
            parent = chain
            done.append(layer)
            chain = chain_id([item.diff_id for item in done])
            assert chain is not None
            if not self.has(chain):
                self._unpack(chain, parent, layer)
        return chain

    def has(self, chain: Digest) -> bool:
        return (self._layers / chain.hex).is_dir()

    def chains(self) -> Iterator[Digest]:
        return (Digest("sha256", path.name) for path in sorted(self._layers.iterdir()))

    def remove(self, chain: Digest) -> None:
        """Remove one committed layer; the caller knows that nothing stands on it."""
        with contextlib.suppress(FileNotFoundError):
            short = self._layers / chain.hex / "short"
            (self._short / short.read_text()).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            doomed = self._tmp / new_id()
            os.rename(self._layers / chain.hex, doomed)
            _remove(doomed)

    def lowers(self, chain: Digest | None) -> list[Path]:
        """The chain's directories, top first, by short names fit for overlay's options."""
        found: list[Path] = []
        while chain is not None:
            directory = self._layers / chain.hex
            try:
                meta = read_json(directory / "meta.json")
                found.append(self._short / (directory / "short").read_text())
            except FileNotFoundError as error:
                raise NotFound(f"the snapshot {chain} is not unpacked") from error
            chain = Digest.parse(meta["parent"]) if meta["parent"] else None
        return found

    def view(self, chain: Digest | None) -> RootView:
        return RootView(self.lowers(chain))

    @contextlib.contextmanager
    def _locked(self, chain: Digest) -> Iterator[None]:
        fd = os.open(self._tmp / f"{chain.hex}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _unpack(self, chain: Digest, parent: Digest | None, layer: LayerRef) -> None:
        with self._locked(chain):
            if self.has(chain):
                return
            tmp = self._tmp / new_id()
            (tmp / "fs").mkdir(parents=True)
            try:
                with self.view(parent) as below, self._blobs.open(layer.blob.digest) as stream:
                    fd = os.open(tmp / "fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    try:
                        kind = MediaType.compression(layer.blob.media_type)
                        applied = apply_layer(stream, fd, compression=kind, parents=below.lstat)
                    finally:
                        os.close(fd)
                if applied.diff_id != layer.diff_id:
                    raise Invalid(f"the layer unpacks to {applied.diff_id}, not {layer.diff_id}")
                self._commit_directory(tmp, chain, parent, layer.diff_id, applied.uncompressed)
            except BaseException:
                _remove(tmp)
                raise

    def _commit_directory(
        self, tmp: Path, chain: Digest, parent: Digest | None, diff: Digest, size: int
    ) -> None:
        """Publish ``tmp`` (with its ``fs``) as the snapshot ``chain``."""
        short = new_id(8)
        meta = {"parent": str(parent) if parent else "", "diff_id": str(diff), "size": size}
        write_json(tmp / "meta.json", meta, durable=False)
        (tmp / "short").write_text(short)
        os.symlink(f"../layers/{chain.hex}/fs", self._short / short)
        try:
            os.rename(tmp, self._layers / chain.hex)
        except OSError:
            (self._short / short).unlink()
            if not self.has(chain):
                raise
            _remove(tmp)  # somebody else committed the same content first
        fsync_directory(self._layers)

    # Builds

    def prepare(self, parent: Digest | None) -> Active:
        """A fresh upper directory for one RUN."""
        active = self._active / new_id()
        (active / "fs").mkdir(parents=True, mode=0o755)
        (active / "work").mkdir()
        os.chmod(active / "fs", 0o755)
        return Active(active.name, active / "fs", active / "work", parent)

    def commit(
        self, active: Active, *, compression: Compression = "gzip", epoch: int | None = None
    ) -> Committed:
        """Write the layer from the upper directory and make that directory the snapshot, without a copy."""
        if not os.listdir(active.upper):
            self.discard(active)
            return Committed(active.parent, None)
        fd = os.open(active.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            layer = write_layer(self._blobs, diff_upper(fd), compression=compression, epoch=epoch)
        finally:
            os.close(fd)
        seed = f"{active.parent} {layer.diff_id}".encode()
        chain = Digest.of(seed) if active.parent else layer.diff_id
        directory = active.upper.parent
        _remove(active.work)
        if self.has(chain):
            _remove(directory)
        else:
            self._commit_directory(directory, chain, active.parent, layer.diff_id, layer.uncompressed)
        return Committed(chain, layer)

    def discard(self, active: Active) -> None:
        _remove(active.upper.parent)

    # Containers

    def mount(
        self, container: str, chain: Digest | None, target: Path, stubs: Mapping[str, bytes] | None = None
    ) -> None:
        """Mount a container's root: the chain, an init layer with ``stubs`` (files to mount over), a writable layer.

        Idempotent: what is mounted already stays.
        """
        if is_mount(target):
            return
        base = self._containers / container
        for part in ("init", "fs", "work"):
            (base / part).mkdir(parents=True, exist_ok=True)
        for part in ("init", "fs"):
            os.chmod(base / part, 0o755)
        for path, content in (stubs or {}).items():
            self._stub(base / "init", chain, path, content)
        target.mkdir(parents=True, exist_ok=True)
        lowers = [str(base / "init"), *(os.path.realpath(path) for path in self.lowers(chain))]
        mount_overlay(
            target, self.root, [base / "init", *self.lowers(chain)], base / "fs", base / "work", lowers
        )

    def _stub(self, init: Path, chain: Digest | None, path: str, content: bytes) -> None:
        """A file in the init layer whose parents look as they do in the image."""
        with self.view(chain) as view:
            parents = path.split("/")[:-1]
            here = init
            for index, part in enumerate(parents):
                here = here / part
                if not here.exists():
                    here.mkdir()
                    below = view.lstat("/".join(parents[: index + 1]))
                    os.chmod(here, below.mode if below else 0o755)
                    os.chown(here, below.uid if below else 0, below.gid if below else 0)
        (init / path).write_bytes(content)

    def unmount(self, container: str, target: Path, *, keep_upper: bool = False) -> None:
        """Take the root away and, unless ``keep_upper``, everything the container wrote."""
        while is_mount(target):
            linux.umount2(target, linux.MNT_DETACH)
        with contextlib.suppress(FileNotFoundError):
            target.rmdir()
        if not keep_upper:
            _remove(self._containers / container)

    def container_ids(self) -> list[str]:
        return sorted(path.name for path in self._containers.iterdir())


def mount_overlay(
    target: Path, root: Path, lowers: Sequence[Path], upper: Path, work: Path, resolved: Sequence[str]
) -> None:
    """Mount an overlay; many layers are named relative to ``root`` so that they fit into a mount's options."""
    try:
        data = linux.overlay_data(resolved, str(upper), str(work))
        linux.mount("overlay", target, "overlay", linux.MS_NODEV, data)
    except OSError as error:
        if error.errno != 7:  # E2BIG
            raise
        short = [os.path.relpath(path, root) for path in lowers]
        data = linux.overlay_data(short, os.path.relpath(upper, root), os.path.relpath(work, root))
        _mount_from(root, target, data)


def _mount_from(root: Path, target: Path, data: str) -> None:
    # The working directory belongs to the whole process, so a child of its own changes it.
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(root)
            linux.mount("overlay", target, "overlay", linux.MS_NODEV, data)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, os.strerror(status), str(target))


def is_mount(path: Path) -> bool:
    wanted = str(path).encode()
    with open("/proc/self/mountinfo", "rb") as handle:
        return any(line.split(b" ", 5)[4] == wanted for line in handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
