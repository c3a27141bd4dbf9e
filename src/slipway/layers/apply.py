"""Unpacking a layer into a bare overlay layer directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from slipway.errors import Invalid
from slipway.layers.ahead import Ahead, Counted
from slipway.layers.compression import BROKEN, decompressed
from slipway.layers.entry import OPAQUE, WHITEOUT, Entry
from slipway.layers.importing import relative
from slipway.layers.place import Placer
from slipway.layers.sibling import Sibling
from slipway.layers.tar import TarReader
from slipway.oci import Digest

_NAME = 255
_HINT = "it is hostile, or larger than this server allows"


@dataclass(frozen=True, slots=True)
class ApplyLimits:
    """What an archive may be at the most.

    ``ratio`` (bytes unpacked for a byte that came) counts only beyond ``ratio_from`` unpacked bytes: a small archive of
    zeros does no harm. Without ``devices`` they are left out.
    """

    entries: int = 5_000_000
    uncompressed: int = 1 << 40
    ratio: int = 500
    ratio_from: int = 4 << 30
    path: int = 4095
    depth: int = 256
    devices: bool = True


@dataclass(frozen=True, slots=True)
class Applied:
    """What was read: the digest and size of the tar, padding and all."""

    diff_id: Digest
    uncompressed: int


def apply_layer(
    stream: BinaryIO,
    dirfd: int,
    *,
    compression: str,
    parents: Callable[[str], Entry | None] | None = None,
    limits: ApplyLimits | None = None,
    sibling: int | None = None,
) -> Applied:
    """Unpack a layer blob below ``dirfd``, an empty directory that becomes one layer of an overlay.

    ``.wh.X`` becomes a 0:0 character device, an opaque marker the attribute ``trusted.overlay.opaque``. ``parents``
    tells what the layers below have at a path: a directory that the archive only implies gets the metadata from there,
    a parent that is a symlink there is followed inside the tree, a hard link to a file there becomes a copy. Small
    files that the tree below the descriptor ``sibling`` has just so are linked to those: it must never change. Raises
    ``Invalid`` for damaged or hostile archives and beyond a limit; the directory is then to be thrown away. The stream
    is drained, so the returned diff id covers all of it.
    """
    bounds = limits or ApplyLimits()
    packed = Counted(stream)
    kin = Sibling(sibling) if sibling is not None else None
    try:
        with (
            Ahead(decompressed(cast(BinaryIO, packed), compression), _check(packed, bounds)) as ahead,
            Placer(dirfd, parents, kin) as placer,
        ):
            for count, entry in enumerate(TarReader(ahead), 1):
                if count > bounds.entries:
                    raise Invalid(
                        f"the layer has more entries than the limit of {bounds.entries}", hint=_HINT
                    )
                path = _checked(entry, bounds)
                if bounds.devices or entry.kind not in ("char", "block"):
                    _apply(placer, entry, path)
            placer.finish()
            return Applied(*ahead.drain())
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Invalid(f"the layer is damaged: {error}") from error
    finally:
        if kin is not None:
            kin.close()


def read_layer(stream: BinaryIO, compression: str, limits: ApplyLimits | None = None) -> Iterator[Entry]:
    """The entries of a layer blob, whiteouts among them, by clean relative paths. Raises as ``apply_layer`` does."""
    bounds = limits or ApplyLimits()
    packed = Counted(stream)
    try:
        with Ahead(decompressed(cast(BinaryIO, packed), compression), _check(packed, bounds)) as ahead:
            for count, entry in enumerate(TarReader(ahead), 1):
                if count > bounds.entries:
                    raise Invalid(
                        f"the layer has more entries than the limit of {bounds.entries}", hint=_HINT
                    )
                if path := _checked(entry, bounds):
                    yield entry.moved(path)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Invalid(f"the layer is damaged: {error}") from error


def _check(packed: Counted, bounds: ApplyLimits) -> Callable[[int], None]:
    def check(size: int) -> None:
        if size > bounds.uncompressed:
            raise Invalid(
                f"the layer unpacks to more than the limit of {bounds.uncompressed} bytes", hint=_HINT
            )
        if size > bounds.ratio_from and size > packed.size * bounds.ratio:
            raise Invalid(
                f"the layer unpacks to more than {bounds.ratio} times its size, the limit", hint=_HINT
            )

    return check


def _checked(entry: Entry, bounds: ApplyLimits) -> str:
    path = entry.path
    if (
        max(len(path), len(entry.target)) * 4 > bounds.path
    ):  # unlikely, so the exact lengths are taken only then
        for text in (path, entry.target):
            if (length := len(os.fsencode(text))) > bounds.path:
                raise Invalid(f"the layer has a path of {length} bytes; the limit is {bounds.path}")
    clean = relative(path)
    if clean.count("/") >= bounds.depth:
        raise Invalid(f"the layer has a path of more components than the limit of {bounds.depth}")
    if len(clean) * 4 > _NAME and max(len(os.fsencode(name)) for name in clean.split("/")) > _NAME:
        raise Invalid(f"the layer has a name longer than {_NAME} bytes: {clean[:200]!r}")
    return clean


def _apply(placer: Placer, entry: Entry, path: str) -> None:
    parent, _, name = path.rpartition("/")
    if not name.startswith(WHITEOUT):
        placer.entry(entry, path, relative(entry.target) if entry.kind == "hardlink" else entry.target)
    elif name == OPAQUE:
        placer.opaque(parent)
    elif not name.startswith(".wh..wh."):  # those are bookkeeping of an older union file system
        hidden = name.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            raise Invalid(f"the layer has a malformed whiteout: {path[:200]!r}")
        placer.whiteout(parent, hidden)
