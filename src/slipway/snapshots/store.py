"""The snapshots on a local disk."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from slipway.base.ids import new_id
from slipway.base.trees import remove_tree
from slipway.content import ContentStore
from slipway.errors import Invalid
from slipway.layers import Compression, Entry, Layer, apply_layer, diff_upper, write_layer
from slipway.oci import Digest, MediaType
from slipway.snapshots.chain import LayerRef, chain_on
from slipway.snapshots.chains import Chains
from slipway.snapshots.roots import Roots
from slipway.snapshots.view import RootView

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GRACE = timedelta(days=7)
_SIBLINGS = 1000


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
    """Everything blocks: call it from a thread. Safe for any number of threads and for a kill at any time.

    The life of a chain: ``ensure`` makes it or finds it and keeps it young; then ``view``, ``lowers``, ``mount`` or
    ``prepare`` use it at once. What nobody used for long is removed by ``collect`` and made again when it is wanted.
    """

    def __init__(self, root: Path, blobs: ContentStore) -> None:
        self.root = root
        self._blobs = blobs
        self._chains = Chains(root)
        self._roots = Roots(root / "containers")
        self._active = root / "active"
        self._newest: dict[Digest | None, Digest] = {}
        self._active.mkdir(parents=True, exist_ok=True, mode=0o700)

    def recover(self) -> None:
        """Remove what a killed server or machine left half done. Nothing else may use the store yet."""
        for path in self._active.iterdir():
            remove_tree(path)
        self._chains.recover()

    # Chains

    def ensure(self, layers: Sequence[LayerRef]) -> Digest | None:
        """Unpack what is missing of a stack of layers, bottom first, and return its ChainID.

        Raises ``Invalid`` for a layer whose content is not what its diff id says, ``NotFound`` for a missing blob.
        """
        chain: Digest | None = None
        for layer in layers:
            parent, chain = chain, chain_on(chain, layer.diff_id)
            if not self._chains.use(chain):
                self._unpack(chain, parent, layer)
        return chain

    def has(self, chain: Digest) -> bool:
        return self._chains.has(chain)

    def chains(self) -> Iterator[Digest]:
        return iter(self._chains)

    def lowers(self, chain: Digest | None) -> list[Path]:
        """The chain's directories, top first. Raises ``NotFound`` if it is not unpacked."""
        return [self._chains.files(item) for item in self._chains.stack(chain)]

    def view(self, chain: Digest | None) -> RootView:
        return RootView(self.lowers(chain))

    def remove(self, chain: Digest) -> bool:
        """Remove one committed layer, whoever uses it: the caller knows that nothing stands on it."""
        return self._chains.remove(chain)

    def collect(self, grace: timedelta = _GRACE) -> int:
        """Remove what no container and no RUN stands on and nobody used for ``grace``; how many layers that were."""
        removed = self._chains.collect([*self._roots.chains(), *self._parents()], grace)
        self.settle()
        return removed

    def settle(self) -> None:
        """Write to disk what was made so far. Without it, ``recover`` drops that if the machine was restarted.

        Snapshots are not written through as they are made, since they can be made again: their blobs are.
        """
        self._chains.settle()

    def _unpack(self, chain: Digest, parent: Digest | None, layer: LayerRef) -> None:
        kind = MediaType.compression(layer.blob.media_type)
        with self._chains.locked(chain):
            if self._chains.use(chain):
                return  # somebody else made it while we waited
            with self._chains.making() as made:
                with self.view(parent) as below, self._blobs.open(layer.blob.digest) as stream:
                    with _opened(made / "fs") as fd, self._sibling(parent) as sibling:
                        applied = apply_layer(
                            stream, fd, compression=kind, parents=below.lstat, sibling=sibling
                        )
                if applied.diff_id != layer.diff_id:
                    raise Invalid(
                        f"the layer {layer.blob.digest} unpacks to {applied.diff_id}, not {layer.diff_id}",
                        hint="the image's configuration does not belong to its layers: build or push it again",
                    )
                self._chains.publish(made, chain, parent, layer.diff_id, applied.uncompressed)
        self._newest[parent] = chain
        if len(self._newest) > _SIBLINGS:
            self._newest.pop(next(iter(self._newest)), None)

    @contextlib.contextmanager
    def _sibling(self, parent: Digest | None) -> Iterator[int | None]:
        """The tree that was last unpacked over the same parent: likely an earlier version of the next."""
        chain = self._newest.get(parent)
        try:
            fd = os.open(self._chains.files(chain), _DIRECTORY) if chain is not None else None
        except FileNotFoundError:
            fd = None
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    # Builds

    def prepare(self, parent: Digest | None) -> Active:
        """A fresh upper directory for one RUN; to be ended by ``commit`` or ``discard``."""
        active = self._active / new_id()
        active.mkdir(mode=0o700)
        (active / "parent").write_text(str(parent or ""))
        for part in ("fs", "work"):
            (active / part).mkdir()
            (active / part).chmod(0o755)
        return Active(active.name, active / "fs", active / "work", parent)

    def finish(self, active: Active) -> None:
        """Nothing is written to it any more: it looks as the snapshot will. Idempotent; ``commit`` does it, too."""
        with _opened(active.upper) as fd:
            _plain(fd)

    def view_of(self, active: Active) -> RootView:
        """The root with what is in ``active``, before it is a snapshot. Raises ``FileNotFoundError`` once it is one."""
        return RootView([active.upper, *self.lowers(active.parent)])

    def commit(
        self, active: Active, *, compression: Compression = "gzip", epoch: int | None = None,
        through: Callable[[Iterator[Entry]], Iterator[Entry]] = lambda entries: entries,
    ) -> Committed:  # fmt: skip
        """Write the layer from the upper directory and make that directory the snapshot, without a copy.

        With ``epoch`` the layer's times differ from the directory's, so then the layer is unpacked again instead. The
        layer's entries pass ``through`` whoever wants to see them.
        """
        with _opened(active.upper) as fd:
            entries = diff_upper(fd)
            first = next(entries, None)
            if first is None:
                self.discard(active)
                return Committed(active.parent, None)
            changes = itertools.chain([first], entries)
            layer = write_layer(self._blobs, through(changes), compression=compression, epoch=epoch)
            _plain(fd)
        chain = chain_on(active.parent, layer.diff_id)
        if epoch is not None:
            self._unpack(chain, active.parent, LayerRef(layer.diff_id, layer.descriptor))
        elif not self._chains.use(chain):
            remove_tree(active.work)
            (active.upper.parent / "parent").unlink(missing_ok=True)
            self._chains.publish(active.upper.parent, chain, active.parent, layer.diff_id, layer.uncompressed)
        self.discard(active)
        return Committed(chain, layer)

    def discard(self, active: Active) -> None:
        """Idempotent, and harmless after ``commit`` and beside one that is still going on."""
        self._chains.throw_away(active.upper.parent)

    def _parents(self) -> list[Digest]:
        found = []
        for path in self._active.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if text := (path / "parent").read_text():
                    found.append(Digest.parse(text))
        return found

    # Containers

    def mount(
        self, container: str, chain: Digest | None, target: Path, init: Mapping[str, bytes] | None = None
    ) -> None:
        """Mount a container's root: the chain, a layer with the files ``init`` (to mount over), a writable layer.

        Idempotent: what is mounted already stays. What the container wrote before is there again.
        """
        self._roots.mount(container, chain, self.lowers(chain), lambda: self.view(chain), target, init or {})

    def unmount(self, container: str, target: Path, *, keep_upper: bool = False) -> None:
        """Take the root away and, unless ``keep_upper``, everything the container wrote. Idempotent."""
        self._roots.unmount(container, target, keep_upper)

    def container_ids(self) -> list[str]:
        """Who has a root here, mounted or not."""
        return self._roots.ids()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _plain(fd: int) -> None:
    """The top directory as it will be when the layer is unpacked: a layer says nothing about it."""
    if os.geteuid() == 0:
        os.fchown(fd, 0, 0)
    os.fchmod(fd, 0o755)
    for name in os.listxattr(fd):
        if not name.startswith("trusted.overlay."):
            os.removexattr(fd, name)
