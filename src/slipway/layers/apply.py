"""Unpacking a layer into a bare overlay layer directory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from slipway.errors import Exhausted, Invalid
from slipway.layers.compression import BROKEN, decompressed
from slipway.layers.entry import OPAQUE, WHITEOUT, Entry
from slipway.layers.importing import relative
from slipway.layers.place import Placer
from slipway.layers.tar import TarReader
from slipway.oci import Digest

_BUFFER = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApplyLimits:
    """What an archive may be at the most."""

    entries: int = 5_000_000
    uncompressed: int = 1 << 40
    path: int = 4096
    depth: int = 256


@dataclass(frozen=True, slots=True)
class Applied:
    """What was read: the digest and size of the tar, padding and all."""

    diff_id: Digest
    uncompressed: int


class _Counted:
    """Hashes and counts everything that is read, up to the limit."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.hasher = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.size += len(data)
        if self.size > self._limit:
            raise Exhausted(f"the layer unpacks to more than {self._limit} bytes")
        self.hasher.update(data)
        return data


def apply_layer(
    stream: BinaryIO,
    dirfd: int,
    *,
    compression: str,
    parents: Callable[[str], Entry | None] | None = None,
    limits: ApplyLimits | None = None,
) -> Applied:
    """Unpack a layer blob below ``dirfd``, an empty directory that becomes one layer of an overlay.

    ``.wh.X`` becomes a 0:0 character device, an opaque marker the attribute ``trusted.overlay.opaque``; a directory
    that the archive only implies gets the metadata ``parents`` has for it in the layers below; a hard link to a file
    of a lower layer becomes a copy. Raises ``Invalid`` for damaged or hostile archives and ``Exhausted`` beyond a
    limit; the directory is then to be thrown away. The stream is drained, so the returned diff id covers all of it.
    """
    bounds = limits or ApplyLimits()
    try:
        counted = _Counted(decompressed(stream, compression), bounds.uncompressed)
        with Placer(dirfd, parents or (lambda path: None)) as placer:
            for count, entry in enumerate(TarReader(counted), 1):  # type: ignore[arg-type]
                if count > bounds.entries:
                    raise Exhausted(f"the layer has more than {bounds.entries} entries")
                _apply(placer, entry, _checked(entry.path, bounds))
            placer.finish()
        while counted.read(_BUFFER):
            pass
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Invalid(f"the layer is damaged: {error}") from error
    return Applied(Digest.finish(counted.hasher), counted.size)


def _checked(path: str, bounds: ApplyLimits) -> str:
    if len(path) > bounds.path:
        raise Exhausted(f"the layer has a path of {len(path)} characters; the limit is {bounds.path}")
    clean = relative(path)
    if clean.count("/") >= bounds.depth:
        raise Exhausted(f"the layer has a path of more than {bounds.depth} components")
    return clean


def _apply(placer: Placer, entry: Entry, path: str) -> None:
    parent, _, name = path.rpartition("/")
    if name == OPAQUE:
        placer.opaque(parent)
    elif name.startswith(".wh..wh."):
        return  # bookkeeping of an older union file system
    elif name.startswith(WHITEOUT):
        hidden = name.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            raise Invalid(f"the layer has a malformed whiteout: {path!r}")
        placer.whiteout(parent, hidden)
    else:
        placer.entry(entry, path, relative(entry.target) if entry.kind == "hardlink" else entry.target)
