"""Archives from outside become layers of ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from slipway.content import ContentStore
from slipway.errors import Invalid
from slipway.layers.ahead import Ahead
from slipway.layers.compression import BROKEN, Compression, detected
from slipway.layers.entry import Entry
from slipway.layers.tar import TarReader
from slipway.layers.write import Layer, write_layer


def import_tar(store: ContentStore, stream: BinaryIO, *, compression: Compression = "gzip") -> Layer:
    """Re-pack a tar (plain, gzip, zstd, xz or bzip2) as a layer, streaming. Device nodes are left out.

    Raises ``Invalid`` for a damaged archive and for names that lead outside.
    """
    try:
        return write_layer(store, _entries(stream), compression=compression)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # not the archive: the disk, the pipe
        raise Invalid(f"the archive cannot be read: {error}") from error


def _entries(stream: BinaryIO) -> Iterator[Entry]:
    with Ahead(detected(stream)) as ahead:
        for entry in TarReader(ahead):
            path = relative(entry.path)
            if entry.kind in ("char", "block") or not path:
                continue
            target = relative(entry.target) if entry.kind == "hardlink" else entry.target
            yield replace(entry, path=path, target=target)
        ahead.drain()  # only the end of the stream tells that it was whole


def relative(path: str) -> str:
    """``path`` without leading ``/`` and ``./``. Raises ``Invalid`` when it has ``..``."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Invalid(f"the archive has a path with '..': {path[:200]!r}", hint="it is hostile or broken")
    return "/".join(parts)
