"""gzip (RFC 1952) by ISA-L, in which what does not shrink is stored as it is.

Packages, pictures and compiled programs that are packed already are a good part of most images. Deflate takes a second
for every few hundred megabytes of them, and saves nothing; stored blocks (RFC 1951, 3.2.4) are a copy, here and for
everybody who unpacks the layer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from isal import isal_zlib

_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no time, no name, made on no particular system
_LAST = b"\x01\0\0\xff\xff"
_LEVEL = 1
_RAW = -15
_WINDOW = 1024 * 1024
_STORED = 65535
_SAMPLES = 4
_SAMPLE = 4096
_WORTH = 31 / 32


class Gzip:
    """A compressor whose output depends on the input alone, not on the pieces it comes in.

    Each mebibyte is judged by a few samples of it. Memory: one mebibyte, and what is being returned.
    """

    def __init__(self) -> None:
        self._deflate: isal_zlib.Compress | None = None
        self._checksum = 0
        self._size = 0
        self._waiting: list[bytes] = []
        self._held = 0
        self._header = _HEADER

    def compress(self, data: bytes, /) -> bytes:
        found: list[bytes | memoryview] = [self._header]
        self._header = b""
        rest = memoryview(data)
        while self._held + len(rest) >= _WINDOW:
            piece, rest = rest[: _WINDOW - self._held], rest[_WINDOW - self._held :]
            window = memoryview(b"".join((*self._waiting, piece))) if self._waiting else piece
            self._waiting, self._held = [], 0
            found += self._packed(window)
        if rest:
            self._waiting.append(bytes(rest))
            self._held += len(rest)
        return b"".join(found)

    def flush(self) -> bytes:
        """The end; nothing can be compressed afterwards."""
        found: list[bytes | memoryview] = [self._header, *self._packed(memoryview(b"".join(self._waiting)))]
        self._waiting = []
        found.append(self._deflate.flush() if self._deflate is not None else _LAST)
        found.append(struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF))
        return b"".join(found)

    def _packed(self, window: memoryview) -> Iterator[bytes | memoryview]:
        self._checksum = isal_zlib.crc32(window, self._checksum)
        self._size += len(window)
        if len(window) == _WINDOW and not _shrinks(window):
            yield from self._stored(window)
            return
        if self._deflate is None:
            self._deflate = isal_zlib.compressobj(_LEVEL, wbits=_RAW)
        yield self._deflate.compress(window)

    def _stored(self, window: memoryview) -> Iterator[bytes | memoryview]:
        if self._deflate is not None:
            # To the next whole byte. What comes after the stored blocks must not refer to what came before them.
            yield self._deflate.flush(isal_zlib.Z_FULL_FLUSH)
            self._deflate = None
        for begin in range(0, len(window), _STORED):
            piece = window[begin : begin + _STORED]
            yield struct.pack("<BHH", 0, len(piece), len(piece) ^ 0xFFFF)
            yield piece


def _shrinks(window: memoryview) -> bool:
    step = len(window) // _SAMPLES
    sample = b"".join(window[begin : begin + _SAMPLE] for begin in range(step // 2, len(window), step))
    return len(isal_zlib.compress(sample, _LEVEL, _RAW)) < len(sample) * _WORTH
