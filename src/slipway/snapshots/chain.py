"""Layers by their two names."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.oci import Descriptor, Digest


@dataclass(frozen=True, slots=True)
class LayerRef:
    """A layer of an image: the digest of its tar, and its (compressed) blob."""

    diff_id: Digest
    blob: Descriptor
