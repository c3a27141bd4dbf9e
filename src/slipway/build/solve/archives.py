"""ADD's local archives: known by their content, unpacked by our own reader."""

from __future__ import annotations

import bz2
import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO, cast

from slipway.build.tree import Tree
from slipway.errors import Invalid
from slipway.layers import ApplyLimits, Entry
from slipway.layers.compression import BROKEN, decompressed
from slipway.layers.importing import relative
from slipway.layers.tar import TarReader

_MAGIC: tuple[tuple[bytes, Callable[[BinaryIO], BinaryIO]], ...] = (
    (b"\x1f\x8b", lambda stream: decompressed(stream, "gzip")),
    (b"BZh", lambda stream: cast(BinaryIO, bz2.BZ2File(stream))),
    (b"\xfd7zXZ\0", lambda stream: decompressed(stream, "xz")),
    (b"\x28\xb5\x2f\xfd", lambda stream: decompressed(stream, "zstd")),
)
_USTAR = 257


def unpacked(tree: Tree, entry: Entry) -> list[Entry] | None:
    """The archive's entries, their contents spooled to one unnamed file on disk; ``None`` when it is no archive."""
    with tree.open(entry.path) as stream:
        head = stream.read(512)
        stream.seek(0)
        opener = next((item for magic, item in _MAGIC if head.startswith(magic)), None)
        if opener is None and head[_USTAR : _USTAR + 5] != b"ustar":
            return None
        plain = io.BufferedReader(cast(io.RawIOBase, opener(stream))) if opener else stream
        try:
            if opener and plain.peek(512)[_USTAR : _USTAR + 5] != b"ustar":  # type: ignore[attr-defined]
                return None
            return _spooled(plain, entry.size)
        except BROKEN as error:
            raise Invalid(f"the archive {entry.path!r} is damaged: {error}") from error
        except ValueError as error:
            raise Invalid(f"the archive {entry.path!r} is damaged: {error}") from error


def _spooled(stream: BinaryIO, packed: int) -> list[Entry]:
    """``packed``: the archive's own bytes. Raises ``Invalid`` for one that unpacks to far more than it should."""
    bounds = ApplyLimits()
    spool = tempfile.TemporaryFile(dir="/var/tmp")  # noqa: SIM115 - lives as long as the entries that read it
    found: list[Entry] = []
    for entry in TarReader(stream):
        path = relative(entry.path)
        if len(found) >= bounds.entries:
            raise Invalid(f"the archive has more than {bounds.entries} entries")
        if not path or entry.kind in ("char", "block"):
            continue
        if entry.kind == "file":
            offset = spool.tell()
            for chunk in entry.chunks() if entry.chunks else ():
                spool.write(chunk)
                if spool.tell() > bounds.ratio_from and spool.tell() > packed * bounds.ratio:
                    raise Invalid(
                        f"the archive unpacks to more than {bounds.ratio} times its size",
                        hint="it is a bomb, or broken",
                    )
            found.append(replace(entry, path=path, chunks=None, open=_slice(spool, offset, entry.size)))
        else:
            target = relative(entry.target) if entry.kind == "hardlink" else entry.target
            found.append(replace(entry, path=path, target=target))
    spool.flush()
    return found


def _slice(spool: BinaryIO, offset: int, size: int) -> Callable[[], int]:
    def opened() -> int:
        fd = (
            os.memfd_create("archive")
            if size < 1 << 20
            else os.open("/var/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
        )
        left, position = size, offset
        while left:
            count = (
                os.copy_file_range(spool.fileno(), fd, left, position)
                if size >= 1 << 20
                else os.write(fd, os.pread(spool.fileno(), left, position))
            )
            left, position = left - count, position + count
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    return opened
