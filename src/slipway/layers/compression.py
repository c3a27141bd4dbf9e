"""Compressors and decompressors of layers, all releasing the GIL."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import BinaryIO, Literal, Protocol, cast

import zstandard
from isal import igzip, isal_zlib

from slipway.errors import Invalid
from slipway.layers.gzip import Gzip
from slipway.oci import MediaType

Compression = Literal["gzip", "zstd", "none"]

MEDIA_TYPES: dict[str, str] = {
    "gzip": MediaType.OCI_LAYER_GZIP,
    "zstd": MediaType.OCI_LAYER_ZSTD,
    "none": MediaType.OCI_LAYER,
}
_ISAL_ERROR = cast(type[Exception], isal_zlib.error)
BROKEN: tuple[type[Exception], ...] = (
    EOFError, OSError, zlib.error, _ISAL_ERROR, zstandard.ZstdError, lzma.LZMAError,
)  # fmt: skip
_ZSTD_LEVEL = 3
_ZSTD_MAX_WINDOW = 1 << 27
_ZSTD_PIECE = 2048  # a hostile one unpacks to 64 MiB at the most
_XZ_MEMORY = 256 * 1024 * 1024
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"))


class Compressor(Protocol):
    """The incremental form that all libraries share."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(kind: Compression) -> Compressor:
    """A fresh compressor; its output depends on its input only (no time, no name in the gzip header)."""
    if kind == "gzip":
        return Gzip()
    if kind == "zstd":
        return cast(Compressor, zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj())
    return _Plain()


def decompressed(stream: BinaryIO, kind: str) -> BinaryIO:
    """``stream`` without its compression. Reading raises one of ``BROKEN`` for damaged or unfinished data."""
    if kind == "gzip":
        return cast(BinaryIO, igzip.IGzipFile(fileobj=stream, mode="rb"))  # type: ignore[no-untyped-call]
    if kind == "zstd":
        return cast(BinaryIO, _Zstd(stream))
    if kind == "xz":
        return cast(BinaryIO, _Xz(stream))
    if kind == "bzip2":
        return cast(BinaryIO, bz2.BZ2File(stream))
    if kind == "none":
        return stream
    raise Invalid(f"unknown layer compression {kind!r}")


def detected(stream: BinaryIO) -> BinaryIO:
    """``stream`` decompressed by what its first bytes say (gzip, zstd, xz, bzip2), for archives from outside."""
    buffered = (
        stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream))
    )
    head = buffered.peek(6)[:6]
    kind = next((kind for magic, kind in _MAGIC if head.startswith(magic)), "none")
    return decompressed(cast(BinaryIO, buffered), kind)


class _Decompressing(io.RawIOBase):
    """A stream out of a decompressor that gives what it has."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ready = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At least a byte unless at the end; everything if ``size`` is negative."""
        if size < 0:
            return self.readall()
        if not size or not (self._ready or self._more()):
            return b""
        piece, self._ready = self._ready[:size], self._ready[size:]
        return piece

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def _more(self) -> bool:
        """Make some bytes ready; whether there were any."""
        raise NotImplementedError


class _Zstd(_Decompressing):
    """Frames of Zstandard. The library's own reader takes a stream that was cut short for its end."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._rest = b""

    def _more(self) -> bool:
        gathered: list[bytes] = []
        size = 0
        while size < io.DEFAULT_BUFFER_SIZE * 8:
            data = self._rest or self._stream.read(_ZSTD_PIECE)
            if not data:
                if self._frame is not None:
                    raise EOFError("the compressed data is cut short")
                break
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            gathered.append(self._frame.decompress(data))
            size += len(gathered[-1])
            self._rest = b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        self._ready = b"".join(gathered)
        return bool(self._ready)


class _Xz(_Decompressing):
    """Streams of xz; its dictionary, which the archive chooses, is limited."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._block: lzma.LZMADecompressor | None = None
        self._rest = b""

    def _more(self) -> bool:
        while not self._ready:
            if self._block is None:
                self._rest = self._rest.lstrip(b"\0") or self._stream.read(65536).lstrip(b"\0")
                if not self._rest:
                    return False
                self._block = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)
            data = self._rest or (self._stream.read(65536) if self._block.needs_input else b"")
            if not data and self._block.needs_input:
                raise EOFError("the compressed data is cut short")
            self._rest = b""
            self._ready = self._block.decompress(data, 1024 * 1024)
            if self._block.eof:
                self._rest, self._block = self._block.unused_data, None
        return True
