"""The store on a bucket."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import BinaryIO

from slipway.base.ids import new_id
from slipway.content.bucket import sweep
from slipway.content.bucket.blobs import INLINE, PIECE, Reading, Record, home, publications
from slipway.content.bucket.decisions import (
    begin,
    decide,
    discard,
    forget,
    open_uploads,
    published,
)
from slipway.content.bucket.leases import BucketLease, leased
from slipway.content.bucket.objects import Missing, Objects
from slipway.content.bucket.parts import PART, Hashes, Parts
from slipway.content.bucket.uploads import BucketUpload
from slipway.content.collect import Collected, Roots
from slipway.content.protocol import READ_LIMIT, damaged
from slipway.content.writer import Buffer, check
from slipway.errors import Exhausted, Invalid, NotFound, Unavailable
from slipway.oci import Digest

_AT_ONCE = 8
_TRIES = 3


class BucketStore:
    """Blobs in a bucket that any number of processes share. Everything blocks: call it from a thread.

    ``settle``: how late the server's listings may be; a collection waits that long once. ``rest``: how long the bytes
    of a removed blob stay for those who are reading them. ``part``: what an upload holds in memory.
    """

    def __init__(
        self, objects: Objects, *, settle: timedelta = timedelta(), rest: timedelta = timedelta(hours=1),
        part: int = PART,
    ) -> None:  # fmt: skip
        self._objects = objects
        self._hashes = Hashes()
        self._settle = settle.total_seconds()
        self._rest = rest.total_seconds()
        self._part = part

    def recover(self) -> None:
        """Nothing: what is open or leased may be another process's, and ends by its time."""

    def size(self, digest: Digest) -> int | None:
        found = publications(self._objects.list(home(digest)))
        return found[0].size if found else None

    def renew(self, digest: Digest) -> int | None:
        found = sweep.renewed(self._objects, digest, self._objects.list(home(digest)))
        return found.size if found else None

    def touch(self, digest: Digest) -> bool:
        return self.renew(digest) is not None

    def open(self, digest: Digest) -> BinaryIO:
        return io.BufferedReader(Reading(self._objects, self._record(digest)), PIECE)

    def _record(self, digest: Digest) -> Record:
        for _ in range(_TRIES):  # a record may go between the listing and its reading, and be there anew
            for one in publications(self._objects.list(home(digest))):
                try:
                    return Record.parse(self._objects.get(one.key))
                except Missing:
                    continue
        raise NotFound(f"the blob {digest} is not in the store")

    def read(self, digest: Digest, limit: int = READ_LIMIT) -> bytes:
        record = self._record(digest)
        if record.size > limit:
            raise Exhausted(f"the blob {digest} has more than {limit} bytes")
        with io.BufferedReader(Reading(self._objects, record), PIECE) as handle:
            return handle.read()

    def put(self, data: bytes) -> Digest:
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()[0]

    def put_all(self, contents: Iterable[bytes]) -> list[Digest]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self.put, list(contents)))

    def writer(self, algorithm: str = "sha256") -> BucketWriter:
        return BucketWriter(self._objects, self._publish, algorithm, self._part)

    def upload(self, upload_id: str, *, create: bool = False) -> BucketUpload:
        """Open or (``create``) begin a resumable upload. Raises ``NotFound``."""
        if not upload_id.isascii() or not upload_id.isalnum() or len(upload_id) > 64:
            raise Invalid(f"not an upload id: {upload_id[:80]!r}")
        if create:
            begin(self._objects, upload_id)
        return BucketUpload(self._objects, upload_id, self._publish, self._hashes, self._part)

    def uploads(self) -> list[tuple[str, float]]:
        found = open_uploads(self._objects)
        now = self._objects.clock() if found else 0.0
        return [(upload, max(0.0, now - written)) for upload, written in found]

    def lease(self, owner: str, ttl: timedelta) -> BucketLease:
        return BucketLease(self._objects, owner, ttl, self.renew)

    def leased(self) -> Iterator[Digest]:
        return leased(self._objects)

    def digests(self) -> Iterator[Digest]:
        return (digest for digest, _ in sweep.listing(self._objects))

    def delete(self, digest: Digest) -> bool:
        found = publications(self._objects.list(home(digest)))
        for one in found:
            sweep.bury(self._objects, digest, one)
        return bool(found)

    def collect(self, roots: Roots, grace: timedelta = timedelta(hours=1)) -> Collected:
        return sweep.collect(
            self._objects,
            self.leased,
            roots,
            grace.total_seconds(),
            self._rest,
            lambda: time.sleep(self._settle),
        )

    def fsck(self) -> Iterator[Digest]:
        """Blobs whose bytes are not what their name says."""
        return damaged(self)

    def _publish(self, origin: str, parts: Parts, digest: Digest) -> None:
        """Write the record, unless the blob is here. A record's name is its upload's, so doing it twice is no harm."""
        if self.renew(digest) is not None:
            if parts.done and not published(self._objects, digest, origin):
                parts.remove()
            return
        if parts.done or len(parts.waiting) > INLINE:
            parts.flush()
            record = Record(parts.written, origin, tuple(parts.done))
        else:
            record = Record(len(parts.waiting), origin, data=bytes(parts.waiting))
        self._objects.put(f"{home(digest)}/{record.size}.{origin}", record.to_bytes())


class BucketWriter:
    """Hashes and writes; the blob exists once ``commit`` returns. Leaving the block without it removes everything.

    Nothing is sent before a whole part is there. From then on it is an upload that nobody continues, so that what a
    killed process leaves is removed as one.
    """

    def __init__(
        self, objects: Objects, publish: Callable[[str, Parts, Digest], None], algorithm: str, part: int
    ) -> None:
        self._id = new_id(40)
        self._objects = objects
        self._publish = publish
        self._algorithm = algorithm
        self._hasher = hashlib.new(algorithm)
        self._parts = Parts(objects, self._id, part)
        self._begun = self._failed = False

    def __enter__(self) -> BucketWriter:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.abort()

    @property
    def size(self) -> int:
        return self._parts.written + len(self._parts.waiting)

    def write(self, buffer: Buffer) -> int:
        try:
            self._parts.add(buffer, self._begin)
        except BaseException:
            self._failed = True
            raise
        self._hasher.update(buffer)
        return len(buffer)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            begin(self._objects, self._id)

    def commit(self, expected: Digest | None = None, size: int | None = None) -> tuple[Digest, int]:
        """Verify and publish. Raises ``Invalid`` on a mismatch; nothing is stored then."""
        if self._failed:
            raise Unavailable("an earlier write failed: the blob is not whole")
        digest, whole = Digest.finish(self._hasher, self._algorithm), self.size
        check(digest, whole, expected, size)
        if whole > INLINE:
            self._begin()
            decide(self._objects, self._id, digest)
        self._publish(self._id, self._parts, digest)
        self._parts.waiting = bytearray()
        if self._begun:
            self._begun = False
            forget(self._objects, self._id)
        return digest, whole

    def abort(self) -> None:
        if self._begun:
            self._begun = False
            with contextlib.suppress(NotFound, Unavailable):  # what stays is an upload that nobody writes to
                discard(self._objects, self._id)
