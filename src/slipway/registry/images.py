"""Images as the other rooms use them."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.oci import Digest, ImageConfig, Manifest


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """One platform's image: where it was found, its manifest and configuration."""

    repository: str
    digest: Digest
    manifest: Manifest
    config: ImageConfig
