"""How a blob lies in the bucket, and how it is read."""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from slipway.content.bucket.objects import Item, Missing, Objects
from slipway.errors import Unavailable
from slipway.oci import Digest

PIECE = 2 * 1024 * 1024  # asked for in one request
INLINE = 256 * 1024  # a blob up to this size is in its record


@dataclass(frozen=True, slots=True)
class Part:
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """What a publication says: the blob's bytes, or the parts that have them and the upload they came by."""

    size: int
    origin: str
    parts: tuple[Part, ...] = ()
    data: bytes = b""

    def to_bytes(self) -> bytes:
        parts = [[part.key, part.size] for part in self.parts]
        head = {"version": 1, "size": self.size, "origin": self.origin, "parts": parts}
        return json.dumps(head, separators=(",", ":")).encode() + b"\n" + self.data

    @classmethod
    def parse(cls, raw: bytes) -> Record:
        head, _, data = raw.partition(b"\n")
        found = json.loads(head)
        parts = tuple(Part(key, size) for key, size in found["parts"])
        return cls(found["size"], found["origin"], parts, data)


@dataclass(frozen=True, slots=True)
class Publication:
    """One record of a blob, ``blobs/sha256/ab/abcd…/SIZE.ID``, with the marks beside it.

    ``young`` names the last renewal (by its time and the mark's own, for two may fall into one second); ``tombs`` are
    the sweeps that mean to remove it.
    """

    key: str
    size: int
    written: float
    young: tuple[float, str] | None = None
    tombs: tuple[str, ...] = ()

    @property
    def touched(self) -> float:
        return max(self.written, self.young[0] if self.young else 0.0)

    @property
    def all_keys(self) -> list[str]:
        """Of the record and its marks, in the order in which they go."""
        return [self.key, *self.tombs, f"{self.key}.young"]


def home(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def publications(items: Iterable[Item]) -> list[Publication]:
    """What a listing of one blob's home says; the best to read first."""
    records: dict[str, Item] = {}
    marks: dict[str, tuple[float, str]] = {}
    tombs: dict[str, list[str]] = {}
    for item in items:
        directory, _, name = item.key.rpartition("/")
        words = name.split(".")
        record = f"{directory}/{'.'.join(words[:2])}"
        if len(words) == 2 and words[0].isdigit():
            records[record] = item
        elif len(words) == 3 and words[2] == "young":
            marks[record] = (item.modified, item.etag)
        elif len(words) == 4 and words[2] == "tomb":
            tombs.setdefault(record, []).append(item.key)
    found = [
        Publication(
            key,
            int(key.rpartition("/")[2].partition(".")[0]),
            item.modified,
            marks.get(key),
            tuple(tombs.get(key, ())),
        )
        for key, item in records.items()
    ]
    return sorted(found, key=lambda one: (bool(one.tombs), -one.written, one.key))


class Reading(io.RawIOBase):
    """A blob, a piece a request: whoever reads slowly holds no connection open."""

    def __init__(self, objects: Objects, record: Record) -> None:
        self._objects = objects
        self._record = record
        self._starts = [0, *accumulate(part.size for part in record.parts)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._record.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._piece(min(len(buffer), PIECE, self._record.size - self._position))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _piece(self, count: int) -> bytes:
        if count <= 0:
            return b""
        if not self._record.parts:
            return self._record.data[self._position : self._position + count]
        number = bisect_right(self._starts, self._position) - 1
        part, first = self._record.parts[number], self._position - self._starts[number]
        try:
            return self._objects.part(part.key, first, min(count, part.size - first))
        except Missing as error:
            raise Unavailable(
                "the blob was removed while it was read", hint="nothing refers to it"
            ) from error


def joined(objects: Objects, parts: Sequence[Part]) -> io.BufferedReader:
    """The bytes of ``parts`` one after another."""
    return io.BufferedReader(
        Reading(objects, Record(sum(part.size for part in parts), "", tuple(parts))), PIECE
    )
