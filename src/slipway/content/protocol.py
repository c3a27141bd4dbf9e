"""What a content store promises, whatever it stands on: a disk, or a bucket that several servers share.

A store's life::

    upload = store.upload(id, create=True)      # or a writer, for bytes that need not survive this process
    upload.append(b"…"); upload.close()         # a request ends; the next one may be another process's
    with store.lease("push", ttl) as lease:
        lease.add(digest)                       # before relying on the blob being there
        store.upload(id).commit(digest)         # verified; only now the blob exists
        …                                       # the reference is made in the database
    store.collect(roots)                        # at any time, by any process: it stays

Everything blocks: call it from a thread. Every method may raise ``Unavailable`` when what the store stands on does not
answer; nothing is wrong then, and the same call may succeed later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from slipway.content.collect import Collected, Roots
from slipway.content.writer import Buffer
from slipway.errors import NotFound
from slipway.oci import Digest

READ_LIMIT = 4 * 1024 * 1024
_PIECE = 1024 * 1024


class BlobSink(Protocol):
    """One blob being written. Leaving the block without ``commit`` removes everything."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def write(self, buffer: Buffer) -> int: ...

    def commit(self, expected: Digest | None = None, size: int | None = None) -> tuple[Digest, int]:
        """Verify, make durable and publish. Raises ``Invalid`` on a mismatch; nothing is stored then."""

    def abort(self) -> None:
        """What leaving the block does. Idempotent."""


class BlobUpload(Protocol):
    """A resumable upload, opened at its end. Of two that append at the same place one gets ``Conflict``."""

    @property
    def offset(self) -> int: ...
    @property
    def id(self) -> str: ...
    def append(self, buffer: Buffer) -> None: ...

    def commit(self, expected: Digest, size: int | None = None) -> tuple[Digest, int]:
        """Verify and publish. On a mismatch (``Invalid``) the upload stays."""

    def close(self) -> None:
        """What was appended is kept once this returns: a store may write only now, and raise ``Conflict``."""

    def discard(self) -> None:
        """Remove it. Idempotent; one that is published meanwhile stays a blob."""


class BlobLease(Protocol):
    """Protects what is added to it until it is released or its time is over.

    Add a digest *before* relying on the blob being there, and release the lease *after* the reference is made: then
    either the sweep leaves the blob alone, or the caller sees that it is gone.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def add(self, digest: Digest) -> None:
        """Idempotent. Raises ``Conflict`` when the lease is over and was swept away."""

    def hold(self, digests: Iterable[Digest]) -> Mapping[Digest, int | None]:
        """Add several at once; the size of each, ``None`` for one that is not here. Raises as ``add`` does.

        What is said to be here stays as long as the lease.
        """

    def release(self) -> None: ...


class BlobStore(Protocol):
    """Blobs by digest: the part that readers and writers of whole blobs need."""

    def size(self, digest: Digest) -> int | None:
        """The blob's bytes, or ``None`` when it is not here."""

    def open(self, digest: Digest) -> BinaryIO:
        """The blob to read, from any position. Raises ``NotFound``."""

    def read(self, digest: Digest, limit: int = READ_LIMIT) -> bytes:
        """A small blob whole. Raises ``NotFound``, and ``Exhausted`` above ``limit`` bytes."""

    def put(self, data: bytes) -> Digest: ...

    def put_all(self, contents: Iterable[bytes]) -> list[Digest]:
        """Several small blobs. All are stored, or the call raises."""

    def writer(self, algorithm: str = "sha256") -> BlobSink: ...


class ContentStore(BlobStore, Protocol):
    """The whole store: uploads, leases and collection beside the blobs."""

    def renew(self, digest: Digest) -> int | None:
        """``size``, and protection by age from now on: a client that is told that it is here will not send it."""

    def touch(self, digest: Digest) -> bool:
        """Make a blob young for the sweep; whether it is there."""

    def upload(self, upload_id: str, *, create: bool = False) -> BlobUpload:
        """Open or (``create``) begin a resumable upload. Raises ``NotFound``, ``Invalid`` for a malformed id."""

    def uploads(self) -> list[tuple[str, float]]:
        """Ids of uploads and the seconds since each was last written."""

    def lease(self, owner: str, ttl: timedelta) -> BlobLease:
        """Protect what is added to the lease from collection, for at most ``ttl``."""

    def leased(self) -> Iterator[Digest]:
        """Every digest under a lease that is not over."""

    def digests(self) -> Iterator[Digest]:
        """Every blob that is here."""

    def delete(self, digest: Digest) -> bool:
        """Remove a blob whoever uses it; whether it was there."""

    def collect(self, roots: Roots, grace: timedelta = timedelta(hours=1)) -> Collected:
        """Remove what is older than ``grace`` and neither leased nor among ``roots``, which are asked for late.

        A page of blobs at a time, so that it takes no more memory however many there are.
        """

    def fsck(self) -> Iterator[Digest]:
        """Blobs whose bytes are not what their name says."""

    def recover(self) -> None:
        """Once, before a server begins: put in order what its predecessor on this machine left."""


def damaged(store: ContentStore) -> Iterator[Digest]:
    """Blobs whose bytes are not what their name says."""
    for digest in store.digests():
        hasher = digest.hasher()
        try:
            handle = store.open(digest)
        except NotFound:
            continue  # collected meanwhile
        with handle:
            while chunk := handle.read(_PIECE):
                hasher.update(chunk)
        if hasher.hexdigest() != digest.hex:
            yield digest
