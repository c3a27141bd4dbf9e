"""What ``docker save`` writes, taken apart into a configuration and layers in the content store.

Both forms are read: Docker's own (manifest.json, a tar for each layer) and the OCI layout of newer daemons with the
same manifest.json. The archive is a stream from somebody else: nothing of it is unpacked, documents are bounded, and a
layer counts only if its content has the digest that the configuration says.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import BinaryIO

from slipway.content import BlobLease, ContentStore
from slipway.errors import Invalid
from slipway.layers import Entry, Layer, read_layer, write_tar
from slipway.oci import ImageConfig
from slipway.snapshots import LayerRef

Imported = tuple[ImageConfig, tuple[LayerRef, ...]]
_SMALL = 4 * 1024 * 1024
_MAX_DOCUMENTS = 64 * 1024 * 1024
_MANIFEST = "manifest.json"


def import_archive(stream: BinaryIO, blobs: ContentStore, lease: BlobLease) -> Imported:
    """The first image of the archive; its layers are under ``lease``. Raises ``Invalid``. Blocks."""
    found = _Contents(blobs, lease)
    for entry in read_layer(stream, "none"):
        found.take(entry)
    return found.image()


class _Contents:
    def __init__(self, blobs: ContentStore, lease: BlobLease) -> None:
        self._blobs = blobs
        self._lease = lease
        self._documents: dict[str, bytes] = {}
        self._layers: dict[str, Layer] = {}
        self._links: dict[str, str] = {}

    def take(self, entry: Entry) -> None:
        if entry.kind in ("symlink", "hardlink"):
            base = posixpath.dirname(entry.path) if entry.kind == "symlink" else ""
            self._links[entry.path] = posixpath.normpath(posixpath.join(base, entry.target))
        elif entry.kind == "file" and entry.chunks is not None:
            self._file(entry, entry.chunks())

    def _file(self, entry: Entry, chunks: Iterator[bytes]) -> None:
        """A document begins with a brace, which no tar does."""
        first = next(chunks, b"")
        if first[:1] in (b"{", b"[") and entry.size <= _SMALL:
            data = first + b"".join(chunks)
            if sum(map(len, self._documents.values())) + len(data) > _MAX_DOCUMENTS:
                raise Invalid("the image's archive has too many documents")
            self._documents[entry.path] = data
        elif entry.path.endswith(".tar") or entry.path.startswith("blobs/"):
            layer = write_tar(self._blobs, _all(first, chunks))
            self._lease.add(layer.descriptor.digest)
            self._layers[entry.path] = layer

    def image(self) -> Imported:
        try:
            listed = json.loads(self._documents[_MANIFEST])[0]
            config = ImageConfig.parse(self._documents[str(listed["Config"])])
            layers = [self._layer(str(path)) for path in listed["Layers"]]
        except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
            raise Invalid(f"the image's archive is damaged: {type(error).__name__} {error}"[:300]) from error
        if tuple(layer.diff_id for layer in layers) != config.diff_ids:
            raise Invalid("the image's archive has other layers than its configuration says")
        return config, tuple(LayerRef(layer.diff_id, layer.descriptor) for layer in layers)

    def _layer(self, path: str) -> Layer:
        for _ in range(8):  # a link may lead to a link
            if path in self._layers:
                return self._layers[path]
            path = self._links[path]
        raise KeyError(path)


def _all(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
