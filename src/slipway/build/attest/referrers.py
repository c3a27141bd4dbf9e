"""Documents about an image as OCI manifests that have it as their subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slipway.oci import Descriptor, Digest, Manifest, MediaType

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
DSSE = "application/vnd.dsse.envelope.v1+json"
SIGNATURE_TYPE = "application/vnd.dev.cosign.artifact.sig.v1+json"
PREDICATE = "predicateType"
_EMPTY = b"{}"


@dataclass(frozen=True, slots=True)
class Document:
    """One layer of a referrer."""

    media_type: str
    data: bytes
    annotations: Mapping[str, str]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.data), len(self.data), self.annotations)


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest and the blobs it needs. ``tag`` is where tools look that do not ask for referrers."""

    manifest: Manifest
    blobs: tuple[bytes, ...]
    tag: str = ""


def referrer(
    subject: Descriptor, artifact_type: str, documents: Sequence[Document], created: str, tag: str = ""
) -> Referrer:
    """``subject`` is the image's manifest."""
    manifest = Manifest(
        Descriptor(MediaType.OCI_EMPTY, Digest.of(_EMPTY), len(_EMPTY)),
        tuple(item.descriptor for item in documents),
        annotations={"org.opencontainers.image.created": created},
        artifact_type=artifact_type,
        subject=subject,
    )
    return Referrer(manifest, (_EMPTY, *(item.data for item in documents)), tag)


def cosign_tag(digest: Digest, kind: str) -> str:
    """``sig`` or ``att``: the tag beside the image where cosign looks."""
    return f"{digest.algorithm}-{digest.hex}.{kind}"
