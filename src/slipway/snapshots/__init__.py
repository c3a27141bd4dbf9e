"""Unpacked layer chains that can be mounted: shared, read-only, named by ChainID.

A committed snapshot is one layer's directory; a chain is a list of them. Building prepares an upper directory over a
chain and commits it as it is; containers get an init layer and a writable layer of their own over a chain. Files keep
the container's own ids on disk; whoever works under a subordinate id range mounts them id-mapped.

On disk, below one root::

    layers/<chain hex>/fs          the layer's files, with overlay's whiteouts
    layers/<chain hex>/meta.json   parent, diff id, size
    short/<n>                      symlinks with short names to layers/…/fs, for overlay's options
    active/<id>/{fs,work}          a RUN in progress; removed by ``recover``
    containers/<id>/{init,fs,work} a container's own layers
    tmp/                           being unpacked; removed by ``recover``

A chain directory appears by rename when it is complete. ``flock`` on tmp/<chain>.lock joins concurrent unpackers.
Neighbours: ``slipway.layers`` reads and writes the archives, ``slipway.build`` and ``slipway.runtime`` mount.
"""

from slipway.snapshots.chain import LayerRef
from slipway.snapshots.store import Active, Committed, SnapshotStore
from slipway.snapshots.view import RootView

__all__ = ["Active", "Committed", "LayerRef", "RootView", "SnapshotStore"]
