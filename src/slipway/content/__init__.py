"""The content-addressed store that builder, registry and runtime share: ``ContentStore`` says what it promises.

``LocalStore`` is on a disk of this machine, ``slipway.content.bucket`` on a bucket that several servers share. What
follows is the local one's.

A blob appears only by rename, after its digest was verified and it was fsynced; two writers of the same digest do not
conflict. A lease protects what somebody is about to reference. Collection is mark and sweep while serving.

On disk, below one root and on one file system::

    blobs/sha256/ab/abcd…   complete blobs, read-only
    ingest/                 being written or removed; anything here after a crash is removed by ``recover``
    uploads/<id>            resumable uploads, kept between requests and restarts
    leases/<id>             its end (seconds since 1970) and owner in the first line, then one digest a line

Writers do not wait for one another: rename is atomic. Whoever publishes or leases a blob makes it young, under a
shared lock on ``blobs``; the sweep looks at a blob's age and removes it under the exclusive one. So a blob is seen
young by the sweep or gone by its user, over threads and processes.
Neighbours: ``slipway.registry`` owns the references, ``slipway.layers`` writes layers into it.
"""

from slipway.content.collect import Collected, collect
from slipway.content.holding import holding
from slipway.content.leases import Lease
from slipway.content.protocol import BlobLease, BlobSink, BlobStore, BlobUpload, ContentStore
from slipway.content.store import LocalStore
from slipway.content.uploads import Upload
from slipway.content.writer import BlobWriter

__all__ = [
    "BlobLease",
    "BlobSink",
    "BlobStore",
    "BlobUpload",
    "BlobWriter",
    "Collected",
    "ContentStore",
    "Lease",
    "LocalStore",
    "Upload",
    "collect",
    "holding",
]
