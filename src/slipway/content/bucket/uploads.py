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

    def __init__(self, objects: Objects, upload: str, size: int, begun: Sequence[Part] = ()) -> None:
        self._objects = objects
        self._upload = upload
        self._size = size
        self.done = list(begun)
        self.written = sum(part.size for part in self.done)
        self.waiting = bytearray()

    def add(self, buffer: Buffer, before: Callable[[], None] | None = None) -> None:
        view = memoryview(buffer)
        while view:
            count = min(self._size - len(self.waiting), len(view))
            self.waiting += view[:count]
            view = view[count:]
            if len(self.waiting) == self._size:
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
        require_open(objects, upload)
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
            self._parts.add(buffer, lambda: require_open(self._objects, self.id))
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
            require_open(self._objects, self.id)
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


def _name(upload: str, what: str) -> str:
    return f"uploads/{upload}/{what}"


def require_open(objects: Objects, upload: str) -> None:
    if objects.look(_name(upload, "open")) is None:
        raise NotFound(f"there is no upload {upload!r}")


def decide(objects: Objects, upload: str, digest: Digest) -> None:
    """Commit, or raise ``NotFound`` because it is discarded.

    Each side writes its wish before it looks for the other's, and what was decided is forgotten in the order open,
    commit, discard. So who finds no other wish and, after that, the upload still open is the only one to go on.
    """
    objects.put(_name(upload, "commit"), str(digest).encode())
    if objects.look(_name(upload, "discard")) is None and objects.look(_name(upload, "open")) is not None:
        return
    objects.delete([_name(upload, "commit")])
    raise NotFound(f"there is no upload {upload!r} any more")


def discard(objects: Objects, upload: str) -> None:
    """Remove the upload and its bytes, unless they are a blob's or are just becoming that."""
    objects.put(_name(upload, "discard"), b"")
    commit = objects.look(_name(upload, "commit"))
    if commit is not None and objects.clock() - commit.modified < DECIDED_SECONDS:
        objects.delete([_name(upload, "discard")])
        return
    if commit is None:
        ours = objects.look(_name(upload, "open")) is not None
    else:  # whoever began to commit was killed: before it had published, or after
        ours = not published(objects, Digest.parse(objects.get(commit.key).decode()), upload)
    if ours:
        remove_parts(objects, upload)
    forget(objects, upload)


def forget(objects: Objects, upload: str) -> None:
    objects.delete([_name(upload, name) for name in ("open", "commit", "discard")])


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
