"""Layers by their two names, and the name of a stack of them."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.oci import Descriptor, Digest


@dataclass(frozen=True, slots=True)
class LayerRef:
    """A layer of an image: the digest of its tar, and its (compressed) blob."""

    diff_id: Digest
    blob: Descriptor


def chain_on(parent: Digest | None, diff_id: Digest) -> Digest:
    """The ChainID of a layer on top of a chain."""
    return diff_id if parent is None else Digest.of(f"{parent} {diff_id}".encode())
