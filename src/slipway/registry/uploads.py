"""Where an upload stands, and whether a chunk fits: pure decisions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slipway.errors import Invalid

_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class UploadState:
    """An open upload: its id and the bytes that arrived."""

    id: str
    offset: int

    @property
    def range(self) -> str:
        """The ``Range`` header of the distribution specification (inclusive, ``0-0`` for nothing yet)."""
        return f"0-{max(self.offset - 1, 0)}"


class OutOfOrder(Invalid):
    """A chunk that does not begin where the upload ends (HTTP 416)."""


def check_chunk(header: str | None, offset: int, length: int | None) -> None:
    """Whether a chunk with this ``Content-Range`` may be appended at ``offset``. Raises ``OutOfOrder``."""
    if header is None:
        return
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise OutOfOrder(f"not a content range: {header[:100]!r}", hint="it is FIRST-LAST")
    first, last = int(match[1]), int(match[2])
    if first != offset or last < first - 1 or (length is not None and last - first + 1 != length):
        raise OutOfOrder(f"the chunk {header} does not follow the {offset} bytes that arrived")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """What a ``Range`` request asks of a blob, as first and last byte; ``None`` for all of it.

    Raises ``OutOfOrder`` for a range that cannot be satisfied. Several ranges and other units are ignored, as RFC 9110
    allows.
    """
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        count = int(match[2])
        if not count or not size:
            raise OutOfOrder(f"the range {header} is empty")
        return max(size - count, 0), size - 1
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if first >= size or last < first:
        raise OutOfOrder(f"the range {header} lies outside the blob's {size} bytes")
    return first, last
