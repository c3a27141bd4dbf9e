"""Reading archives nobody vouches for: every number is checked, every limit named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from slipway.errors import Exhausted, Invalid
from slipway.layers.entry import Entry, Kind
from slipway.layers.tar.encode import BLOCK

_KINDS: dict[bytes, Kind] = {
    b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block",
    b"5": "dir", b"6": "fifo",
}  # fmt: skip
_BUFFER = 1024 * 1024
_MAX_EXTENSION = 1024 * 1024
_MAX_GLOBAL = 16
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_DECIMAL = re.compile(rb"-?[0-9]{1,19}(\.[0-9]{0,20})?")


@dataclass(slots=True)
class _Pending:
    """What extension headers said of the entry that follows."""

    path: str | None = None
    link: str | None = None
    records: dict[str, bytes] | None = None


class TarReader:
    """Iterates over a tar stream's entries; a file's ``chunks`` must be read, or are skipped, before the next one.

    Raises ``Invalid`` for anything malformed or cut short. The end is the end-of-archive marker or a clean end of the
    stream at a block boundary.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        pending = _Pending()
        extensions = 0
        while (block := self._block()) is not None:
            kind = block[156:157]
            size = _number(block[124:136], "size")
            if kind in b"xgLK" and kind:
                extensions += 1
                if extensions > _MAX_GLOBAL:
                    raise Invalid(f"the archive has more than {_MAX_GLOBAL} extension headers for one entry")
                self._extend(pending, kind, size)
                continue
            extensions = 0
            yield self._entry(block, kind, size, pending)
            pending = _Pending()
            self._skip()

    def _block(self) -> bytes | None:
        block = self._exact(BLOCK, allow_end=True)
        if not block or not any(block):
            return None
        stated = _number(block[148:156], "checksum")
        if sum(block[:148]) + 256 + sum(block[156:]) != stated:
            raise Invalid("the archive is damaged: a header's checksum is wrong")
        return block

    def _extend(self, pending: _Pending, kind: bytes, size: int) -> None:
        if size > _MAX_EXTENSION:
            raise Exhausted(f"an extension header has {size} bytes; the limit is {_MAX_EXTENSION}")
        body = self._exact(size)
        self._exact(-size % BLOCK)
        if kind == b"L":
            pending.path = _text(body.split(b"\0", 1)[0])
        elif kind == b"K":
            pending.link = _text(body.split(b"\0", 1)[0])
        elif kind == b"x":
            pending.records = {**(pending.records or {}), **_records(body)}

    def _entry(self, block: bytes, kind: bytes, size: int, pending: _Pending) -> Entry:
        records = pending.records or {}
        if kind == b"S" or any(key.startswith("GNU.sparse") for key in records):
            raise Invalid(
                "the archive has a sparse file", hint="make it without sparse files (tar without -S)"
            )
        if kind not in _KINDS:
            raise Invalid(f"the archive has an entry of unknown type {kind!r}")
        path, meaning = self._path(block, pending, records), _KINDS[kind]
        if meaning == "file" and path.endswith("/") and kind in b"0\0":
            meaning = "dir"  # old archives mark directories by the slash only
        if "size" in records:
            size = int(_decimal(records["size"], "size"))
        if size < 0:
            raise Invalid("the archive is damaged: a negative size")
        self._left, self._padding = size, -size % BLOCK
        if meaning not in ("file",):
            self._skip()
        return Entry(
            path,
            meaning,
            _number(block[100:108], "mode") & 0o7777,
            self._id(block[108:116], records, "uid"),
            self._id(block[116:124], records, "gid"),
            _decimal(records["mtime"], "mtime") if "mtime" in records else _number(block[136:148], "mtime"),
            size if meaning == "file" else 0,
            self._link(block, pending, records) if meaning in ("symlink", "hardlink") else "",
            self._device(block) if meaning in ("char", "block") else (0, 0),
            {key[13:]: value for key, value in records.items() if key.startswith("SCHILY.xattr.")},
            chunks=self._chunks if meaning == "file" else None,
        )

    @staticmethod
    def _path(block: bytes, pending: _Pending, records: dict[str, bytes]) -> str:
        if "path" in records:
            return _text(records["path"])
        if pending.path is not None:
            return pending.path
        name = block[:100].split(b"\0", 1)[0]
        prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
        return _text(prefix + b"/" + name if prefix else name)

    @staticmethod
    def _link(block: bytes, pending: _Pending, records: dict[str, bytes]) -> str:
        if "linkpath" in records:
            return _text(records["linkpath"])
        return pending.link if pending.link is not None else _text(block[157:257].split(b"\0", 1)[0])

    @staticmethod
    def _id(field: bytes, records: dict[str, bytes], key: str) -> int:
        value = int(_decimal(records[key], key)) if key in records else _number(field, key)
        if not 0 <= value < 2**32 - 1:
            raise Invalid(f"the archive has an impossible {key}: {value}")
        return value

    @staticmethod
    def _device(block: bytes) -> tuple[int, int]:
        major, minor = _number(block[329:337], "major"), _number(block[337:345], "minor")
        if not (0 <= major < 4096 and 0 <= minor < 2**20):
            raise Invalid("the archive has an impossible device number")
        return major, minor

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
        self._exact(self._padding)
        self._padding = 0

    def _exact(self, size: int, *, allow_end: bool = False) -> bytes:
        pieces: list[bytes] = []
        missing = size
        while missing:
            piece = self._stream.read(missing)
            if not piece:
                if allow_end and missing == size:
                    return b""
                raise Invalid("the archive is cut short")
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)


def _text(raw: bytes) -> str:
    if b"\0" in raw:
        raise Invalid("the archive has a name with a NUL in it")
    return raw.decode("utf-8", "surrogateescape")


def _number(field: bytes, what: str) -> int:
    """An octal field, or GNU's base-256 form."""
    if field[:1] and field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ~(0x80 << (8 * (len(field) - 1)))
        if field[0] == 0xFF:
            value = int.from_bytes(field, "big", signed=True)
        if abs(value) > 2**62:
            raise Invalid(f"the archive has an impossible {what}")
        return value
    match = _OCTAL.match(field)
    if match is None or (match.end() != len(field) and field[match.end()] not in b"\0 "):
        raise Invalid(f"the archive is damaged: the {what} is not a number")
    return int(match[1] or b"0", 8)


def _decimal(raw: bytes, what: str) -> float:
    if not _DECIMAL.fullmatch(raw):
        raise Invalid(f"the archive is damaged: the {what} is not a number")
    return int(raw) if b"." not in raw else float(raw)


def _records(body: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    position = 0
    while position < len(body) and body[position]:
        space = body.find(b" ", position, position + 20)
        if space < 0 or not body[position:space].isdigit():
            raise Invalid("the archive is damaged: a pax record has no length")
        end = position + int(body[position:space])
        key, sign, value = body[space + 1 : end - 1].partition(b"=")
        if end > len(body) or end <= space or not sign or body[end - 1 : end] != b"\n":
            raise Invalid("the archive is damaged: a pax record is malformed")
        found[key.decode("utf-8", "surrogateescape")] = value
        position = end
    return found
