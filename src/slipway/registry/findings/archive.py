"""A zip archive of many small files, read one after the other in bounded memory.

``zipfile`` keeps the whole directory in memory, about a kilobyte an entry, and archives of advisories have a million
entries. Here the directory is read as a stream. An archive is refused when its entries claim more bytes than the file
has (entries that share their data), or expand to more than the limits allow; an entry is read to its declared size
and not further, and its checksum must be right.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from slipway.errors import Invalid

SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_TAIL = 22 + 65_535
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1
# How much an archive may expand to whatever its size, so that a small one of much repetition is read.
_EXPANSION_ALLOWED = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    method: int
    encrypted: bool
    checksum: int
    packed: int
    size: int
    offset: int


def members(path: Path, most: int, total: int, ratio: int) -> Iterator[Member]:
    """The files in the archive's directory, in its order. Raises ``Invalid`` when it is damaged or over a limit."""
    size = path.stat().st_size
    claimed = expanded = 0
    with path.open("rb") as handle:
        try:
            count, start = _directory(handle, size)
            if count > most:
                raise Invalid(f"the archive has {count} entries, at most {most} are read")
            handle.seek(start)
            for _ in range(count):
                member = _entry(handle)
                claimed += member.packed
                expanded += member.size
                if claimed > size:
                    raise Invalid("the archive's entries overlap", hint="such an archive is made to do harm")
                if expanded > min(total, max(ratio * size, _EXPANSION_ALLOWED)):
                    raise Invalid(
                        f"the archive expands to more than {expanded - 1} bytes from {size}",
                        hint=f"at most {ratio} times its size and {total} bytes are read",
                    )
                if not member.name.endswith("/"):
                    yield member
        except struct.error as error:
            raise Invalid("the archive's directory is cut off") from error


def content(handle: BinaryIO, member: Member, limit: int) -> bytes:
    """A member's bytes. Raises ``Invalid`` if they are more than ``limit`` or not what the directory says."""
    if member.encrypted or member.method not in (_STORED, _DEFLATED):
        raise Invalid("encrypted, or packed in another way than deflate")
    if member.size > limit or member.packed > limit + 65_536:
        raise Invalid(f"{member.size} bytes, at most {limit} are read")
    handle.seek(member.offset)
    header = handle.read(30)
    if len(header) < 30 or header[:4] != _LOCAL:
        raise Invalid("not where the archive's directory says")
    handle.seek(sum(struct.unpack_from("<HH", header, 26)), 1)
    data = handle.read(member.packed)
    if member.method == _DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        except zlib.error as error:
            raise Invalid(f"damaged: {error}") from error
    if len(data) != member.size or zlib.crc32(data) != member.checksum:
        raise Invalid("damaged: size or checksum is not what the archive's directory says")
    return data


def _directory(handle: BinaryIO, size: int) -> tuple[int, int]:
    """How many entries there are, and where the first is."""
    handle.seek(max(0, size - _TAIL))
    base, tail = handle.tell(), handle.read(_TAIL)
    at = tail.rfind(_END)
    if at < 0:
        raise Invalid("the archive has no directory", hint="was the download cut off?")
    count, length, start = struct.unpack_from("<10xHII", tail, at)
    if count == 0xFFFF or 0xFFFFFFFF in (length, start):
        place = base + at - 20
        handle.seek(max(0, place))
        locator = handle.read(20)
        if locator[:4] == _LOCATOR:
            handle.seek(min(struct.unpack_from("<8xQ", locator)[0], size))
            record = handle.read(56)
            if record[:4] != _END64:
                raise Invalid("the archive's directory is damaged")
            count, length, start = struct.unpack_from("<32xQQQ", record)
    if start + length > size:
        raise Invalid("the archive's directory is damaged")
    return count, start


def _entry(handle: BinaryIO) -> Member:
    fixed = handle.read(46)
    if fixed[:4] != _ENTRY:
        raise Invalid("the archive's directory is damaged")
    flags, method, checksum, packed, size, name, extra, comment, offset = struct.unpack(
        "<8xHH4xIIIHHH8xI", fixed
    )
    text = handle.read(name)
    more = handle.read(extra)
    handle.seek(comment, 1)
    if 0xFFFFFFFF in (packed, size, offset):
        size, packed, offset = _wide(more, size, packed, offset)
    return Member(
        text.decode(errors="replace"), method, bool(flags & _ENCRYPTED), checksum, packed, size, offset
    )


def _wide(extra: bytes, *values: int) -> tuple[int, int, int]:
    """Size, packed size and offset, from the zip64 field where the plain one is full."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4
        if kind == 1:
            field = iter(struct.unpack_from(f"<{length // 8}Q", extra, at))
            wide = [next(field, 0) if value == 0xFFFFFFFF else value for value in values]
            return wide[0], wide[1], wide[2]
        at += length
    raise Invalid("the archive's directory is damaged")
