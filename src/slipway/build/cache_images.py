"""The build cache as an image: what ``--cache-to`` leaves in a registry and ``--cache-from`` finds there.

An OCI image manifest of ``artifactType`` ``application/vnd.slipway.cache.v1``. Its configuration lists *records* (the
key of a step, and the layer it made) and *mounts* (the content of a ``--mount=type=cache``, as a layer), its layers
are the blobs of both.

What is found there is believed for the one build that named it, and never becomes another's: whoever may write to
that repository could put anything under any key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, Self

from slipway.base.clock import iso
from slipway.build.made import Made
from slipway.content import BlobLease
from slipway.errors import Invalid
from slipway.oci import Descriptor, Digest, Manifest, Reference
from slipway.snapshots import LayerRef

ARTIFACT_TYPE = "application/vnd.slipway.cache.v1"
CONFIG_TYPE = "application/vnd.slipway.cache.config.v1+json"
MAX_CONFIG = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CacheTarget:
    """Where a build's cache goes. ``steps``: also of stages that are not in the image; ``mounts``: kept directories."""

    reference: Reference
    steps: bool = True
    mounts: bool = True


@dataclass(frozen=True, slots=True)
class CacheContent:
    """Steps' results by key, and kept directories as layers by the id of their mount."""

    records: Mapping[str, Made] = field(default_factory=dict)
    mounts: Mapping[str, LayerRef] = field(default_factory=dict)

    def config(self) -> bytes:
        """Deterministic for the same content."""
        records = [_record(key, made) for key, made in sorted(self.records.items())]
        mounts = [{"id": name, **_layer(layer)} for name, layer in sorted(self.mounts.items())]
        return json.dumps({"records": records, "mounts": mounts}, separators=(",", ":")).encode()

    def manifest(self) -> Manifest:
        config = self.config()
        layers = {made.layer.blob.digest: made.layer.blob for made in self.records.values() if made.layer}
        layers |= {layer.blob.digest: layer.blob for layer in self.mounts.values()}
        top = Descriptor(CONFIG_TYPE, Digest.of(config), len(config))
        return Manifest(
            top, tuple(layers[digest] for digest in sorted(layers, key=str)), artifact_type=ARTIFACT_TYPE
        )

    @classmethod
    def parse(cls, manifest: Manifest, config: bytes) -> Self:
        """Raises ``Invalid`` for anything that is not a cache, or that names a layer the manifest has not."""
        if manifest.artifact_type != ARTIFACT_TYPE or manifest.config.media_type != CONFIG_TYPE:
            raise Invalid("this image holds no build cache", hint="--cache-to makes one")
        blobs = {layer.digest: layer for layer in manifest.layers}
        try:
            value = json.loads(config)
            records = {str(item["key"]): _made(item, blobs) for item in value["records"]}
            mounts = {str(item["id"]): _layer_ref(item, blobs) for item in value["mounts"]}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Invalid(f"the build cache is damaged: {type(error).__name__}") from error
        return cls(records, mounts)


class CacheSource(Protocol):
    """A cache image that was found."""

    @property
    def content(self) -> CacheContent: ...

    async def fetch(self, blob: Descriptor) -> None:
        """Bring a layer of it into the content store; does nothing if it is there. The caller holds a lease on it."""
        ...


class CacheImages(Protocol):
    """Where cache images are found and kept, with the rights of a build's owner."""

    async def find_cache(self, reference: Reference) -> CacheSource:
        """Raises ``NotFound`` when there is none, ``Invalid`` for something else."""
        ...

    async def store_cache(self, reference: Reference, content: CacheContent) -> None:
        """The layers are in the content store, under a lease of the caller's. Raises ``Denied``."""
        ...


class Imported:
    """The caches that one build was given, the first that knows a key being asked."""

    def __init__(self, sources: Sequence[CacheSource] = ()) -> None:
        self._sources = sources

    async def step(self, key: str, lease: BlobLease) -> Made | None:
        """A step's result, its layer in the content store and under ``lease``."""
        for source in self._sources:
            if (made := source.content.records.get(key)) is not None:
                if made.layer is not None:
                    await _fetched(source, made.layer.blob, lease)
                return made
        return None

    async def mount(self, name: str, lease: BlobLease) -> LayerRef | None:
        """A kept directory's content, in the content store and under ``lease``."""
        for source in self._sources:
            if (layer := source.content.mounts.get(name)) is not None:
                await _fetched(source, layer.blob, lease)
                return layer
        return None


async def _fetched(source: CacheSource, blob: Descriptor, lease: BlobLease) -> None:
    await asyncio.to_thread(lease.add, blob.digest)
    await source.fetch(blob)


def _record(key: str, made: Made) -> dict[str, Any]:
    out: dict[str, Any] = {"key": key, "created": iso(made.created)}
    if made.layer is not None:
        out |= {**_layer(made.layer), "uncompressed": made.uncompressed}
    return out


def _layer(layer: LayerRef) -> dict[str, str]:
    return {"layer": str(layer.blob.digest), "diffId": str(layer.diff_id)}


def _made(item: Mapping[str, Any], blobs: Mapping[Digest, Descriptor]) -> Made:
    created = datetime.fromisoformat(item["created"])
    if created.tzinfo is None:
        raise ValueError("a time without a zone")
    if "layer" not in item:
        return Made(None, 0, created)
    return Made(_layer_ref(item, blobs), int(item["uncompressed"]), created)


def _layer_ref(item: Mapping[str, Any], blobs: Mapping[Digest, Descriptor]) -> LayerRef:
    digest = Digest.parse(str(item["layer"]))
    if digest not in blobs:
        raise Invalid(f"the build cache names the layer {digest}, which it has not")
    return LayerRef(Digest.parse(str(item["diffId"])), blobs[digest])
