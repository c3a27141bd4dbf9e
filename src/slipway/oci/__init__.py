"""Values of the OCI image and distribution specifications. No I/O.

A value that was parsed is valid: one constructor checks, instances are frozen, nobody checks again.
Unknown fields of documents written by others are kept, never refused.
"""

from slipway.oci.config import HistoryEntry, ImageConfig
from slipway.oci.descriptor import Descriptor
from slipway.oci.digest import Digest, chain_id
from slipway.oci.manifest import Index, Manifest, parse_manifest
from slipway.oci.media_types import MediaType
from slipway.oci.platform import Platform
from slipway.oci.reference import Reference

__all__ = [
    "Descriptor",
    "Digest",
    "HistoryEntry",
    "ImageConfig",
    "Index",
    "Manifest",
    "MediaType",
    "Platform",
    "Reference",
    "chain_id",
    "parse_manifest",
]
