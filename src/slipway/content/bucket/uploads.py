"""Resumable uploads: numbered parts that any process may continue.

Below ``uploads/ID`` is an object that says that the upload is open; its bytes are ``parts/ID/OFFSET-SIZE-NONCE``. A
part's name is its writer's own, so a request that is repeated cannot meet another's bytes; and a part is never written
again, so whoever hashed it by name knows it.

Two processes at the same place: each writes its part, then lists what lies at its offset or behind. Listings come after
writings, so at least one sees the other, removes its own part and gets ``Conflict`` (both may; the client asks for the
offset and goes on). No conditional writing is needed, which not every server has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from slipway.content.bucket.blobs import PIECE, joined
from slipway.content.bucket.decisions import decide, discard, forget
from slipway.content.bucket.objects import Objects
from slipway.content.bucket.parts import Hashes, Parts, chain, mark
from slipway.content.writer import Buffer, check
from slipway.errors import NotFound
from slipway.oci import Digest


class BucketUpload:
    """One upload, opened at its end. ``offset`` counts what waits in memory, too, until ``close`` has written it."""

    def __init__(
        self,
        objects: Objects,
        upload: str,
        publish: Callable[[str, Parts, Digest], None],
        hashes: Hashes,
        size: int,
    ) -> None:
        self.id = upload
        self._objects = objects
        self._publish = publish
        self._hashes = hashes
        if objects.look(mark(upload, "open")) is None:
            raise NotFound(f"there is no upload {upload!r}")
        begun = chain(objects.list(f"parts/{upload}"))
        self._parts = Parts(objects, upload, size, begun)
        self._begun = list(begun)
        self._hasher: hashlib._Hash | None = None if begun else hashlib.sha256()
        self._open = True
        self._failed: BaseException | None = None

    @property
    def offset(self) -> int:
        return self._parts.written + len(self._parts.waiting)

    def append(self, buffer: Buffer) -> None:
        """Raises ``Conflict`` when another writes at the same place; what earlier parts brought stays."""
        self._continue()
        try:
            self._parts.add(buffer)
        except BaseException as error:
            # What waited is lost, and what comes next would leave a hole: nothing more through this one.
            self._parts.waiting, self._hasher, self._failed = bytearray(), None, error
            raise
        if self._hasher is not None:
            self._hasher.update(buffer)

    def _continue(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._hasher is None and self._parts.done == self._begun and not self._parts.waiting:
            self._hasher = self._hashes.take(self.id, self._begun)

    def commit(self, expected: Digest, size: int | None = None) -> tuple[Digest, int]:
        """Verify and publish. The bytes stay where they are: only a record of them is written."""
        self._continue()
        whole = self.offset
        check(self._digest(expected.algorithm), whole, expected, size)
        decide(self._objects, self.id, expected)
        self._publish(self.id, self._parts, expected)
        self._parts.waiting, self._hasher, self._open = bytearray(), None, False
        forget(self._objects, self.id)
        return expected, whole

    def _digest(self, algorithm: str) -> Digest:
        if algorithm == "sha256" and self._hasher is not None:
            return Digest.finish(self._hasher)
        hasher = hashlib.new(algorithm)
        with joined(self._objects, self._parts.done) as stream:
            while chunk := stream.read(PIECE):
                hasher.update(chunk)
        hasher.update(self._parts.waiting)
        return Digest.finish(hasher, algorithm)

    def close(self) -> None:
        """Keep what waits; raises ``Conflict`` and ``Unavailable``, and then it is not kept."""
        if not self._open:
            return
        self._open = False
        if self._parts.waiting:
            try:
                self._parts.flush()
            finally:
                self._parts.waiting = bytearray()
        if self._hasher is not None:
            self._hashes.keep(self.id, self._parts.done, self._hasher)
            self._hasher = None

    def discard(self) -> None:
        """Idempotent; one that is published, or is just being, stays."""
        self._open, self._hasher, self._parts.waiting = False, None, bytearray()
        discard(self._objects, self.id)
