"""One entry of a layer or of a file tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["file", "dir", "symlink", "hardlink", "char", "block", "fifo"]

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Entry:
    """``path`` is relative (``""``: the root), bytes that are no UTF-8 as surrogates. ``mode`` has no type bits.

    ``target`` is a symlink's text or a hard link's path. A file has ``size`` bytes, got from ``open`` (a descriptor
    the caller closes) or, in a stream that can be read once, from ``chunks``.
    """

    path: str
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: float = 0
    size: int = 0
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    open: Callable[[], int] | None = field(default=None, compare=False)
    chunks: Callable[[], Iterator[bytes]] | None = field(default=None, compare=False)

    # A copy has an entry or two for each of its files: ``dataclasses.replace`` takes five times as long as these.

    def moved(self, path: str) -> Entry:
        """The same at another path."""
        return Entry(
            path, self.kind, self.mode, self.uid, self.gid, self.mtime, self.size, self.target, self.device,
            self.xattrs, self.open, self.chunks,
        )  # fmt: skip

    def owned(self, mode: int, uid: int, gid: int) -> Entry:
        """The same with another mode and owner."""
        return Entry(
            self.path, self.kind, mode, uid, gid, self.mtime, self.size, self.target, self.device, self.xattrs,
            self.open, self.chunks,
        )  # fmt: skip
