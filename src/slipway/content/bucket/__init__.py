"""The content store on an S3-compatible bucket, shared by any number of processes on any number of hosts.

In the bucket, below one prefix::

    blobs/sha256/ab/abcd…/SIZE.ID        a record: the blob itself if it is small, else the names of its parts
    blobs/sha256/ab/abcd…/SIZE.ID.young  written whenever somebody will soon refer to the blob
    blobs/sha256/ab/abcd…/SIZE.ID.tomb.SWEEP   this sweep is about to remove the record
    parts/ORIGIN/OFFSET-SIZE-NONCE       bytes, 8 MiB or what a request ended with
    uploads/ORIGIN/open, commit, …       an upload that is under way, and what is decided about it
    leases/ID                            its end and owner, then one digest a line
    dead/ORIGIN                          its record is gone: these parts go, too, when nobody can be reading them
    clock                                written to learn the server's time

**A blob is a record of parts.** An upload's bytes stay where they arrived; what ``commit`` writes, after it verified
the digest, is one small object. So a blob appears whole and at once, publishing costs no copy whatever its size, and a
chunk that arrived through one process is continued by another. The option not taken is one object a blob: S3's
multipart upload cannot be begun by one process of the client library and ended by another, and copying an upload's
chunks together means reading and writing every byte twice. The price is that a bucket cannot be read without Slipway.

**What is asked of the server**: objects appear whole, and listings show what was written before (S3, MinIO and Ceph do;
OpenStack Swift does while its container servers answer: ``settle`` allows for late ones). Conditional writing is not
asked for, which Swift, for one, refuses: who shares a place writes under a name of its own, then lists. See
``uploads`` for two writers of one upload, ``sweep`` for collection beside pushes.

**Cost.** A digest's running state cannot leave its process: an upload that another process finishes is read from the
bucket once. A part in memory for each upload, a piece of 2 MiB for each reader.
"""

from slipway.content.bucket.address import open_bucket
from slipway.content.bucket.objects import Objects
from slipway.content.bucket.store import BucketStore

__all__ = ["BucketStore", "Objects", "open_bucket"]
