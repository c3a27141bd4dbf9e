"""Unpacked layer chains that can be mounted: shared, read-only, named by ChainID.

A committed snapshot is one layer's directory; a chain is a list of them. Building prepares an upper directory over a
chain and commits it as it is; containers get an init layer and a writable layer of their own over a chain. Files keep
the container's own ids on disk; whoever works under a subordinate id range mounts them id-mapped.

On disk, below one root::

    layers/<chain hex>/fs               the layer's files, with overlay's whiteouts
    layers/<chain hex>/meta.json        parent, diff id, size
    unsettled/<chain hex>.<n>           published in the boot named in it, perhaps not on disk yet
    active/<id>/{fs,work,parent}        a RUN in progress; removed by ``recover``
    containers/<id>/{init,fs,work,chain}  a container's own layers
    tmp/                                being unpacked or removed; removed by ``recover``
    locks/<chain hex>                   held by ``flock`` while a chain is made or removed

A chain directory appears by rename when it is complete, so it can be used without a lock, and never changes. Making
the same chain twice at a time means that one waits and finds it. Its age (of the directory) says when it was last
wanted. Data is written through only by ``settle``: a chain that is not settled when the machine goes down is made
again from its blob, which was.

Neighbours: ``slipway.layers`` reads and writes the archives, ``slipway.build`` and ``slipway.runtime`` mount.
"""

from slipway.snapshots.chain import LayerRef
from slipway.snapshots.store import Active, Committed, SnapshotStore
from slipway.snapshots.view import RootView, resolved

__all__ = ["Active", "Committed", "LayerRef", "RootView", "SnapshotStore", "resolved"]
