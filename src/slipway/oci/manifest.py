"""Image manifests and indexes, OCI and Docker (image-spec: manifest.md, image-index.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from slipway.errors import Invalid
from slipway.oci.descriptor import Descriptor
from slipway.oci.media_types import MediaType

MAX_MANIFEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image or artifact: a config and layers, bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = MediaType.OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    subject: Descriptor | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any], media_type: str) -> Self:
        layers = value.get("layers")
        if not isinstance(layers, list):
            raise Invalid("a manifest needs a list of layers")
        subject = value.get("subject")
        return cls(
            Descriptor.from_json(value.get("config")),
            tuple(Descriptor.from_json(layer) for layer in layers),
            media_type,
            _annotations(value),
            _text(value, "artifactType"),
            Descriptor.from_json(subject) if subject is not None else None,
        )

    def to_bytes(self) -> bytes:
        """Canonical JSON: the digest of an image we make depends on it, so its form never changes."""
        out: dict[str, Any] = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        out["config"] = self.config.to_json()
        out["layers"] = [layer.to_json() for layer in self.layers]
        if self.subject:
            out["subject"] = self.subject.to_json()
        if self.annotations:
            out["annotations"] = dict(self.annotations)
        return json.dumps(out, separators=(",", ":")).encode()

    @property
    def references(self) -> tuple[Descriptor, ...]:
        """What must exist for this manifest to be whole (the subject need not)."""
        return (self.config, *self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, one a platform or one a referrer."""

    manifests: tuple[Descriptor, ...]
    media_type: str = MediaType.OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    subject: Descriptor | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any], media_type: str) -> Self:
        manifests = value.get("manifests")
        if not isinstance(manifests, list):
            raise Invalid("an index needs a list of manifests")
        subject = value.get("subject")
        return cls(
            tuple(Descriptor.from_json(entry) for entry in manifests),
            media_type,
            _annotations(value),
            _text(value, "artifactType"),
            Descriptor.from_json(subject) if subject is not None else None,
        )

    def to_bytes(self) -> bytes:
        out: dict[str, Any] = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        out["manifests"] = [entry.to_json() for entry in self.manifests]
        if self.subject:
            out["subject"] = self.subject.to_json()
        if self.annotations:
            out["annotations"] = dict(self.annotations)
        return json.dumps(out, separators=(",", ":")).encode()

    @property
    def references(self) -> tuple[Descriptor, ...]:
        return self.manifests


def parse_manifest(data: bytes, content_type: str = "") -> Manifest | Index:
    """Parse and check a manifest or index as a registry must.

    ``content_type`` is what the client or server said it is; a document that says otherwise, or that could be
    read as both a manifest and an index, is refused (CVE-2021-41190). Raises ``Invalid``.
    """
    if len(data) > MAX_MANIFEST:
        raise Invalid(f"the manifest has {len(data)} bytes; the limit is {MAX_MANIFEST}")
    try:
        value = json.loads(data)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text: nothing could store it
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the manifest is not JSON: {error}"[:300].encode(errors="replace").decode()) from error
    if not isinstance(value, dict) or value.get("schemaVersion") != 2:
        raise Invalid("the manifest is not an object with schemaVersion 2")
    stated = value.get("mediaType")
    if stated is not None and not isinstance(stated, str):
        raise Invalid("mediaType must be a string")
    declared = content_type.split(";")[0].strip()
    if stated and declared and stated != declared:
        raise Invalid(f"the manifest says it is {stated[:100]!r} but was sent as {declared[:100]!r}")
    media_type = stated or declared
    if ("layers" in value or "config" in value) and "manifests" in value:
        raise Invalid("the document has both layers and manifests: it could be read in two ways")
    if not media_type:
        media_type = MediaType.OCI_INDEX if "manifests" in value else MediaType.OCI_MANIFEST
    if media_type in MediaType.INDEXES:
        return Index.from_json(value, media_type)
    if media_type in MediaType.MANIFESTS:
        return Manifest.from_json(value, media_type)
    raise Invalid(
        f"unknown manifest type {media_type[:100]!r}",
        hint="OCI manifests and indexes and Docker schema 2 are accepted",
    )


def _annotations(value: dict[str, Any]) -> Mapping[str, str]:
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(v, str) for v in annotations.values()):
        raise Invalid("annotations must map strings to strings")
    return annotations


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key, "")
    return text if isinstance(text, str) else ""
