"""Resumable uploads: numbered parts that any process may continue.

Below ``uploads/ID`` is an object that says that the upload is open; its bytes are ``parts/ID/OFFSET-SIZE-NONCE``. A
part's name is its writer's own, so a request that is repeated cannot meet another's bytes; and a part is never written
again, so whoever hashed it by name knows it.

Two processes at the same place: each writes its part, then lists what lies at its offset or behind. Listings come after
writings, so at least one sees the other, removes its own part and gets ``Conflict`` (both may; the client asks for the
offset and goes on). No conditional writing is needed, which not every server has.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from slipway.base.ids import new_id
from slipway.content.bucket.blobs import PIECE, Part, Record, home, joined, publications
from slipway.content.bucket.objects import Item, Missing, Objects
from slipway.content.writer import Buffer, check
from slipway.errors import Conflict, NotFound
from slipway.oci import Digest

PART = 8 * 1024 * 1024
_KEPT = 1000
DECIDED_SECONDS = 3600.0  # a commit that was begun this long ago is no longer under way


class Hashes:
    """The running hashes of this process's uploads between two requests, each with the parts it has seen.

    hashlib's state cannot leave the process: one that continues another's upload reads its parts once more, from the
    bucket, when it commits.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[list[Part], hashlib._Hash]] = OrderedDict()

    def keep(self, upload: str, parts: list[Part], hasher: hashlib._Hash) -> None:
        self._kept[upload] = (parts, hasher)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def take(self, upload: str, parts: list[Part]) -> hashlib._Hash | None:
        seen, hasher = self._kept.pop(upload, (None, None))
        return hasher if seen == parts else None


class Parts:
    """Bytes on their way into parts of one upload: what does not fill a part waits in memory."""

    def __init__(self, objects: Objects, upload: str, begun: Sequence[Part] = ()) -> None:
        self._objects = objects
        self._upload = upload
        self.done = list(begun)
        self.written = sum(part.size for part in self.done)
        self.waiting = bytearray()

    def add(self, buffer: Buffer, before: Callable[[], None] | None = None) -> None:
        view = memoryview(buffer)
        while view:
            count = min(PART - len(self.waiting), len(view))
            self.waiting += view[:count]
            view = view[count:]
            if len(self.waiting) == PART:
                if before is not None:
                    before()
                self.flush()

    def flush(self) -> None:
        """Raises ``Conflict`` when somebody else writes here; what was written before stays."""
        if not self.waiting:
            return
        size = len(self.waiting)
        key = f"parts/{self._upload}/{self.written:015d}-{size}-{new_id()}"
        self._objects.put(key, self.waiting)
        here = self._objects.list(f"parts/{self._upload}", f"parts/{self._upload}/{self.written:015d}")
        if any(item.key != key for item in here):
            self._objects.delete([key])
            raise Conflict(
                f"the upload {self._upload!r} is being written to",
                hint="one request at a time; ask for its offset",
            )
        self.done.append(Part(key, size))
        self.written += size
        self.waiting = bytearray()

    def remove(self) -> None:
        remove_parts(self._objects, self._upload)


def remove_parts(objects: Objects, upload: str) -> None:
    objects.delete([item.key for item in objects.list(f"parts/{upload}")])


def chain(items: Sequence[Item]) -> list[Part]:
    """The parts that follow one another from the beginning, as far as they go.

    Where two lie at one place (a writer died before it could withdraw), the way that leads further is taken. Taking the
    wrong one of two that end together does no harm: the digest will not fit, and the client begins anew.
    """
    at: dict[int, list[Part]] = {}
    for item in items:
        words = item.key.rpartition("/")[2].split("-")
        if words[0].isdigit() and words[1:2] == [str(item.size)]:
            at.setdefault(int(words[0]), []).append(Part(item.key, item.size))
    best: dict[int, tuple[int, Part]] = {}
    for offset in sorted(at, reverse=True):
        ends = [offset + part.size for part in at[offset]]
        ways = [
            (best[end][0] if end in best else end, part) for end, part in zip(ends, at[offset], strict=True)
        ]
        best[offset] = max(ways, key=lambda way: (way[0], way[1].key))
    found: list[Part] = []
    offset = 0
    while offset in best:
        part = best[offset][1]
        found.append(part)
        offset += part.size
    return found


class BucketUpload:
    """One upload, opened at its end. ``offset`` counts what waits in memory, too, until ``close`` has written it."""

    def __init__(
        self, objects: Objects, upload: str, publish: Callable[[str, Parts, Digest], None], hashes: Hashes
    ) -> None:
        self.id = upload
        self._objects = objects
        self._publish = publish
        self._hashes = hashes
        self._require()
        begun = chain(objects.list(f"parts/{upload}"))
        self._parts = Parts(objects, upload, begun)
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
            self._parts.add(buffer, self._require)
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

    def _require(self) -> None:
        if self._objects.look(self._name("open")) is None:
            raise NotFound(f"there is no upload {self.id!r}")

    def commit(self, expected: Digest, size: int | None = None) -> tuple[Digest, int]:
        """Verify and publish. The bytes stay where they are: only a record of them is written."""
        self._continue()
        whole = self.offset
        check(self._digest(expected.algorithm), whole, expected, size)
        self._decide(expected)
        self._publish(self.id, self._parts, expected)
        self._parts.waiting, self._hasher, self._open = bytearray(), None, False
        self._forget()
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

    def _decide(self, digest: Digest) -> None:
        """Commit or discard: each writes its wish, then looks for the other's; at most one goes on."""
        self._require()
        self._objects.put(self._name("commit"), str(digest).encode())
        if self._objects.look(self._name("discard")) is not None:
            self._objects.delete([self._name("commit")])
            raise NotFound(f"there is no upload {self.id!r} any more")

    def close(self) -> None:
        """Keep what waits; raises ``Conflict`` and ``Unavailable``, and then it is not kept."""
        if not self._open:
            return
        self._open = False
        if self._parts.waiting:
            self._require()
            try:
                self._parts.flush()
            finally:
                self._parts.waiting = bytearray()
        if self._hasher is not None:
            self._hashes.keep(self.id, self._parts.done, self._hasher)
            self._hasher = None

    def discard(self) -> None:
        """Idempotent; one that is being published stays."""
        self._open, self._hasher = False, None
        self._objects.put(self._name("discard"), b"")
        commit = self._objects.look(self._name("commit"))
        if commit is None:
            remove_parts(self._objects, self.id)
        elif self._objects.clock() - commit.modified < DECIDED_SECONDS:
            self._objects.delete([self._name("discard")])
            return
        elif not published(self._objects, Digest.parse(self._objects.get(commit.key).decode()), self.id):
            remove_parts(self._objects, self.id)
        self._forget()

    def _forget(self) -> None:
        """That it is open goes first: while that is there, somebody may ask what was decided."""
        self._objects.delete([self._name(name) for name in ("open", "commit", "discard")])

    def _name(self, what: str) -> str:
        return f"uploads/{self.id}/{what}"


def published(objects: Objects, digest: Digest, origin: str) -> bool:
    """Whether a publication of the blob needs the parts of this upload."""
    for one in publications(objects.list(home(digest))):
        with contextlib.suppress(Missing):
            if Record.parse(objects.get(one.key)).origin == origin:
                return True
    return False


def open_uploads(objects: Objects) -> list[tuple[str, float]]:
    """Ids of open uploads and the server's time at which each was last written to."""
    found: dict[str, dict[str, Item]] = {}
    for item in objects.list("uploads"):
        _, upload, name = item.key.split("/", 2)
        found.setdefault(upload, {})[name] = item
    times = []
    for upload, items in found.items():
        if "open" not in items:  # ended by a process that was killed before it had forgotten it
            objects.delete([item.key for item in items.values()])
            continue
        parts = objects.list(f"parts/{upload}")
        times.append((upload, max(item.modified for item in (items["open"], *parts))))
    return times
