"""Content descriptors (OCI image-spec: descriptor.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from slipway.errors import Invalid
from slipway.oci.digest import Digest
from slipway.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: what it is, which bytes, how many."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str = ""
    urls: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises ``Invalid`` unless mediaType, digest and a non-negative integer size are there."""
        if not isinstance(value, dict):
            raise Invalid(f"a descriptor must be an object, not {type(value).__name__}")
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if not isinstance(media_type, str) or not isinstance(digest, str):
            raise Invalid("a descriptor needs mediaType and digest")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise Invalid(f"a descriptor needs a size of 0 or more, not {size!r}"[:200])
        annotations = value.get("annotations") or {}
        urls = value.get("urls") or []
        platform = value.get("platform")
        if not isinstance(annotations, dict) or not all(isinstance(v, str) for v in annotations.values()):
            raise Invalid("annotations must map strings to strings")
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise Invalid("urls must be a list of strings")
        return cls(
            media_type,
            Digest.parse(digest),
            size,
            annotations,
            Platform.from_json(platform) if isinstance(platform, dict) else None,
            value["artifactType"] if isinstance(value.get("artifactType"), str) else "",
            tuple(urls),
        )

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        if self.annotations:
            out["annotations"] = dict(self.annotations)
        if self.platform:
            out["platform"] = self.platform.to_json()
        if self.urls:
            out["urls"] = list(self.urls)
        return out
