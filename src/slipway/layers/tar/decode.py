"""Reading archives nobody vouches for: every number is checked, every limit named.

Where readers of the world differ, this one does what Go's does, which Docker and containerd use, or refuses: an archive
must not mean one thing to a scanner and another here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from slipway.errors import Invalid
from slipway.layers.entry import Entry, Kind
from slipway.layers.tar.encode import BLOCK
from slipway.layers.tar.fields import number, parse_records, text, time_of, whole_number

_KINDS: dict[bytes, Kind] = {
    b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block",
    b"5": "dir", b"6": "fifo",
}  # fmt: skip
_BUFFER = 1024 * 1024
_MAX_EXTENSION = 1024 * 1024
_MAX_EXTENSIONS = 16
_MAX_SIZE = 2**62
_MAX_XATTR = 65536
_ZEROS = bytes(BLOCK)
_XATTR = "SCHILY.xattr."


class Readable(Protocol):
    """All a stream needs: some bytes, none at the end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class _Extensions:
    """What extension headers said of the entry that follows."""

    path: str | None = None
    link: str | None = None
    records: dict[str, bytes] | None = None
    count: int = 0


class TarReader:
    """Iterates over a tar stream's entries; a file's ``chunks`` must be read, or are skipped, before the next one.

    Raises ``Invalid`` for anything malformed, cut short or unknown (sparse files among that). The end is the
    end-of-archive marker or a clean end of the stream at a block boundary.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        extensions = _Extensions()
        while (block := self._block()) is not None:
            kind = block[156:157]
            size = number(block[124:136], "size")
            if not 0 <= size <= _MAX_SIZE:
                raise Invalid("the archive is damaged: an impossible size")
            if kind in b"xgLK":
                self._extend(extensions, kind, size)
                continue
            yield self._entry(block, kind, size, extensions)
            extensions = _Extensions()
            self._skip()
        if extensions.count:
            raise Invalid("the archive is cut short behind an extension header")

    def _block(self) -> bytes | None:
        block = self._exact(BLOCK, allow_end=True)
        if not block:
            return None
        if block == _ZEROS:
            if self._exact(BLOCK, allow_end=True) not in (b"", _ZEROS):
                raise Invalid("the archive is damaged: an entry follows half an end marker")
            return None
        stated = number(block[148:156], "checksum")
        unsigned = sum(block) - sum(block[148:156]) + 256
        if unsigned != stated and stated != unsigned - 256 * _high(block[:148] + block[156:]):
            raise Invalid("the archive is damaged: a header's checksum is wrong")
        return block

    def _extend(self, extensions: _Extensions, kind: bytes, size: int) -> None:
        extensions.count += kind != b"g"
        if extensions.count > _MAX_EXTENSIONS:
            raise Invalid(f"the archive has more than {_MAX_EXTENSIONS} extension headers for one entry")
        if size > _MAX_EXTENSION:
            raise Invalid(f"an extension header has {size} bytes; the limit is {_MAX_EXTENSION}")
        body = self._exact(size)
        self._exact(-size % BLOCK)
        if kind == b"L":
            extensions.path = text(body.split(b"\0", 1)[0])
        elif kind == b"K":
            extensions.link = text(body.split(b"\0", 1)[0])
        elif kind == b"x":
            extensions.records = {**(extensions.records or {}), **parse_records(body)}

    def _entry(self, block: bytes, kind: bytes, size: int, extensions: _Extensions) -> Entry:
        records = extensions.records or {}
        if kind == b"S" or any(key.startswith("GNU.sparse") for key in records):
            raise Invalid(
                "the archive has a sparse file", hint="make it without sparse files (tar without -S)"
            )
        meaning = _KINDS.get(kind)
        if meaning is None:
            raise Invalid(f"the archive has an entry of unknown type {kind!r}")
        if "size" in records:
            size = whole_number(records["size"], "size", _MAX_SIZE)
        path = _path(block, extensions, records)
        if meaning == "file" and path.endswith("/"):
            if size or kind == b"7":
                raise Invalid(f"the archive has a file whose name ends in a slash: {path[:200]!r}")
            meaning = "dir"  # old archives mark directories by the slash only
        if meaning != "file":
            size = 0  # whatever the field says: there is no body
        self._left, self._padding = size, -size % BLOCK
        return Entry(
            path,
            meaning,
            number(block[100:108], "mode") & 0o7777,
            _id(block[108:116], records, "uid"),
            _id(block[116:124], records, "gid"),
            time_of(block[136:148], records),
            size,
            _link(block, extensions, records, path) if meaning in ("symlink", "hardlink") else "",
            _device(block) if meaning in ("char", "block") else (0, 0),
            _xattrs(records) if records else {},
            chunks=self._chunks if meaning == "file" else None,
        )

    def _chunks(self) -> Iterator[bytes]:
        while self._left:
            chunk = self._stream.read(min(_BUFFER, self._left))
            if not chunk:
                raise Invalid("the archive is cut short inside a file")
            self._left -= len(chunk)
            yield chunk

    def _skip(self) -> None:
        for _ in self._chunks():
            pass
        if self._padding:
            self._exact(self._padding)
            self._padding = 0

    def _exact(self, size: int, *, allow_end: bool = False) -> bytes:
        first = self._stream.read(size) if size else b""
        if len(first) == size or (allow_end and not first):
            return first
        pieces = [first]
        missing = size - len(first)
        while missing and first:
            first = self._stream.read(missing)
            pieces.append(first)
            missing -= len(first)
        if missing:
            raise Invalid("the archive is cut short")
        return b"".join(pieces)


def _high(raw: bytes) -> int:
    """How many bytes have their high bit set: some old programs summed them as negative."""
    return sum(byte >= 128 for byte in raw)


def _path(block: bytes, extensions: _Extensions, records: dict[str, bytes]) -> str:
    if "path" in records:
        return text(records["path"])
    if extensions.path is not None:
        return extensions.path
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return text(prefix + b"/" + name if prefix else name)


def _link(block: bytes, extensions: _Extensions, records: dict[str, bytes], path: str) -> str:
    if "linkpath" in records:
        target = text(records["linkpath"])
    else:
        target = extensions.link if extensions.link is not None else text(block[157:257].split(b"\0", 1)[0])
    if not target:
        raise Invalid(f"the archive has a link to nowhere: {path[:200]!r}")
    return target


def _id(field: bytes, records: dict[str, bytes], key: str) -> int:
    value = whole_number(records[key], key, 2**32) if key in records else number(field, key)
    if not 0 <= value < 2**32 - 1:
        raise Invalid(f"the archive has an impossible {key}: {value}")
    return value


def _device(block: bytes) -> tuple[int, int]:
    major, minor = number(block[329:337], "major"), number(block[337:345], "minor")
    if not (0 <= major < 4096 and 0 <= minor < 2**20):
        raise Invalid("the archive has an impossible device number")
    return major, minor


def _xattrs(records: dict[str, bytes]) -> dict[str, bytes]:
    found = {key.removeprefix(_XATTR): value for key, value in records.items() if key.startswith(_XATTR)}
    for name, value in found.items():
        if (
            "\0" in name
            or not 0 < len(name.encode("utf-8", "surrogateescape")) < 256
            or len(value) > _MAX_XATTR
        ):
            raise Invalid(f"the archive has an impossible extended attribute: {name[:200]!r}")
    return found
