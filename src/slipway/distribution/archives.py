"""Images as one file: an OCI image layout in a tar, which is also what ``docker load`` reads (image-layout.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from slipway.content import BlobStore
from slipway.layers import Entry, tar_blocks
from slipway.oci import Descriptor, Digest, Index, Manifest, Platform, Reference, parse_manifest

_PIECE = 1024 * 1024


def image_archive(
    blobs: BlobStore, reference: Reference, data: bytes, media_type: str, *, docker: bool = False
) -> Iterator[bytes]:
    """The tar, in pieces. With ``docker`` it has Docker's own manifest.json, too. Deterministic.

    Every blob is in ``blobs``, under a lease of the caller's until the last piece.
    """
    wanted: dict[Digest, int] = {}
    _gather(blobs, data, media_type, wanted)
    digest = Digest.of(data)
    wanted[digest] = len(data)
    name = str(reference) if reference.tag else ""
    annotations = {"org.opencontainers.image.ref.name": reference.tag, "io.containerd.image.name": name}
    top = Descriptor(media_type, digest, len(data), annotations if reference.tag else {})
    documents = {
        "index.json": Index((top,)).to_bytes(),
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
    }
    if docker:
        documents["manifest.json"] = json.dumps([_docker(blobs, data, media_type, name)]).encode()
    entries = [
        Entry("blobs", "dir", 0o755),
        *(Entry(f"blobs/{name}", "dir", 0o755) for name in _kinds(wanted)),
    ]
    for item in sorted(wanted, key=str):
        entries.append(_file(blobs, item, wanted[item]))
    for path, text in sorted(documents.items()):
        entries.append(_document(path, text))
    yield from tar_blocks(entries)


def _gather(blobs: BlobStore, data: bytes, media_type: str, wanted: dict[Digest, int]) -> None:
    manifest = parse_manifest(data, media_type)
    for item in manifest.references:
        wanted[item.digest] = item.size
        if isinstance(manifest, Index):
            _gather(blobs, blobs.read(item.digest), item.media_type, wanted)


def _docker(blobs: BlobStore, data: bytes, media_type: str, name: str) -> dict[str, Any]:
    """One image of Docker's manifest.json; of an index, the one for this machine (or else the first)."""
    manifest = parse_manifest(data, media_type)
    if isinstance(manifest, Index):
        ours = [item for item in manifest.manifests if item.platform == Platform.host()]
        chosen = (ours or list(manifest.manifests))[0]
        return _docker(blobs, blobs.read(chosen.digest), chosen.media_type, name)
    assert isinstance(manifest, Manifest)
    return {
        "Config": _path(manifest.config.digest),
        "RepoTags": [name] if name else None,
        "Layers": [_path(layer.digest) for layer in manifest.layers],
    }


def _kinds(wanted: dict[Digest, int]) -> list[str]:
    return sorted({digest.algorithm for digest in wanted})


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _file(blobs: BlobStore, digest: Digest, size: int) -> Entry:
    def chunks() -> Iterator[bytes]:
        with blobs.open(digest) as stream:
            while piece := stream.read(_PIECE):
                yield piece

    return Entry(_path(digest), "file", 0o644, size=size, chunks=chunks)


def _document(path: str, data: bytes) -> Entry:
    return Entry(path, "file", 0o644, size=len(data), chunks=lambda: iter([data]))
