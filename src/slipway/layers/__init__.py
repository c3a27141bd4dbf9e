"""Layers: archives of changes to a file tree, written and read as streams.

Writing: entries → tar → sha256 (diff id) → compressor → sha256 (digest) → content store, each stage in its own thread,
so that reading, hashing and compressing overlap and memory stays flat whatever the size. Output is deterministic:
entries in the order given, whole seconds, no user names, fixed header fields.

Reading: into a bare overlay layer directory, with OCI whiteouts turned into overlay's. Every path is resolved beneath
an open directory descriptor with symlinks refused, so an archive cannot reach outside whatever it contains.

Neighbours: ``slipway.content`` stores the blobs, ``slipway.snapshots`` owns the directories.
"""

from slipway.layers.apply import Applied, ApplyLimits, apply_layer, read_layer
from slipway.layers.compression import Compression
from slipway.layers.diff import diff_upper
from slipway.layers.entry import OPAQUE, WHITEOUT, Entry, Kind
from slipway.layers.importing import import_tar
from slipway.layers.write import Layer, tar_blocks, write_layer, write_tar

__all__ = [
    "OPAQUE",
    "WHITEOUT",
    "Applied",
    "ApplyLimits",
    "Compression",
    "Entry",
    "Kind",
    "Layer",
    "apply_layer",
    "diff_upper",
    "import_tar",
    "read_layer",
    "tar_blocks",
    "write_layer",
    "write_tar",
]
