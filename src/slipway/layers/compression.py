"""Compressors and decompressors of layers, all releasing the GIL."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO, Literal, Protocol, cast

import zstandard
from isal import igzip, isal_zlib

from slipway.errors import Invalid
from slipway.oci import MediaType

Compression = Literal["gzip", "zstd", "none"]

MEDIA_TYPES: dict[str, str] = {
    "gzip": MediaType.OCI_LAYER_GZIP,
    "zstd": MediaType.OCI_LAYER_ZSTD,
    "none": MediaType.OCI_LAYER,
}
_ISAL_ERROR = cast(type[Exception], isal_zlib.error)
BROKEN: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, _ISAL_ERROR, zstandard.ZstdError)
_GZIP_WINDOW = 31
_GZIP_LEVEL = 1
_ZSTD_LEVEL = 3


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
        return cast(Compressor, isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW))
    if kind == "zstd":
        return cast(Compressor, zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj())
    return _Plain()


def decompressed(stream: BinaryIO, kind: str) -> BinaryIO:
    """``stream`` without its compression. Reading raises one of ``BROKEN`` for damaged data."""
    if kind == "gzip":
        return cast(BinaryIO, igzip.IGzipFile(fileobj=stream, mode="rb"))  # type: ignore[no-untyped-call]
    if kind == "zstd":
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
            stream, read_across_frames=True
        )
        return cast(BinaryIO, reader)
    if kind == "none":
        return stream
    raise Invalid(f"unknown layer compression {kind!r}")


def detected(stream: BinaryIO) -> BinaryIO:
    """``stream`` decompressed by what its first bytes say, for archives from outside."""
    buffered = (
        stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream))
    )
    head = buffered.peek(6)[:6]
    if head.startswith(b"\x1f\x8b"):
        return decompressed(cast(BinaryIO, buffered), "gzip")
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return decompressed(cast(BinaryIO, buffered), "zstd")
    return cast(BinaryIO, buffered)
