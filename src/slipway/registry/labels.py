"""What an image says of itself: its labels and annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slipway.content import BlobStore
from slipway.errors import Exhausted, Invalid, NotFound
from slipway.oci import Digest, Index, Manifest, parse_manifest
from slipway.registry.tagging import Words

_DESCRIPTIONS = ("org.opencontainers.image.description", "org.opencontainers.image.title")
_LARGEST = 1024 * 1024
_MOST_WORDS = 16 * 1024
_MOST_DESCRIPTION = 500


def labels_of(blobs: BlobStore, manifest: Manifest) -> dict[str, Any]:
    """Annotations and labels; the latter win. What cannot be read says nothing."""
    try:
        value = json.loads(blobs.read(manifest.config.digest, _LARGEST))
        found = value.get("config", {}).get("Labels") or {}
    except (ValueError, AttributeError, RecursionError, NotFound, Exhausted):
        found = {}
    return {**manifest.annotations, **(found if isinstance(found, dict) else {})}


def words_of(blobs: BlobStore, manifest: Manifest | Index) -> Words:
    """What search finds a repository by. Of an index: its annotations and the labels of its first image."""
    if isinstance(manifest, Manifest):
        return _words(labels_of(blobs, manifest))
    first = next((item for item in manifest.manifests if item.platform is not None), None)
    labels = _labels_at(blobs, first.digest, first.media_type) if first is not None else {}
    return _words({**labels, **manifest.annotations})


def _labels_at(blobs: BlobStore, digest: Digest, media_type: str) -> dict[str, Any]:
    try:
        manifest = parse_manifest(blobs.read(digest), media_type)
    except (NotFound, Exhausted, Invalid):
        return {}
    return labels_of(blobs, manifest) if isinstance(manifest, Manifest) else {}


def _words(labels: Mapping[str, Any]) -> Words:
    texts = {str(name): value for name, value in labels.items() if isinstance(value, str)}
    description = next((texts[name] for name in _DESCRIPTIONS if texts.get(name)), "")
    lines = "\n".join(f"{name}={value}" for name, value in texts.items()).lower()
    return Words(_kept(" ".join(description.split()), _MOST_DESCRIPTION), _kept(lines, _MOST_WORDS))


def _kept(text: str, most: int) -> str:
    """As databases keep it: without NUL and halves of characters."""
    return text.replace("\0", "")[:most].encode(errors="replace").decode()
