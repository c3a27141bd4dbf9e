"""The parts of an upload: written by whoever has its next bytes, listed by whoever continues."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from slipway.base.ids import new_id
from slipway.content.bucket.blobs import Part
from slipway.content.bucket.objects import Item, Objects
from slipway.content.writer import Buffer
from slipway.errors import Conflict, NotFound

PART = 8 * 1024 * 1024
_KEPT = 1000


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

    def add(self, buffer: Buffer, first: Callable[[], None] | None = None) -> None:
        """``first`` is called before the first part is written."""
        view = memoryview(buffer)
        while view:
            count = min(self._size - len(self.waiting), len(view))
            self.waiting += view[:count]
            view = view[count:]
            if len(self.waiting) == self._size:
                if first is not None and not self.done:
                    first()
                self.flush()

    def flush(self) -> None:
        """Raises ``Conflict`` when somebody else writes here, ``NotFound`` when the upload has ended.

        What was written before stays.
        """
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
        if self._objects.look(mark(self._upload, "open")) is None:
            self._objects.delete([key])
            raise NotFound(f"there is no upload {self._upload!r} any more")
        self.done.append(Part(key, size))
        self.written += size
        self.waiting = bytearray()

    def remove(self) -> None:
        remove_parts(self._objects, self._upload)


def mark(upload: str, what: str) -> str:
    """The key of what is said about an upload; ``decisions`` has the words."""
    return f"uploads/{upload}/{what}"


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
