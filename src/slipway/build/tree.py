"""What COPY reads from: a directory of source code or the root of an image, behind the same few questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Protocol

from slipway.errors import NotFound
from slipway.layers import Entry


class Tree(Protocol):
    """A read-only file tree. Paths are relative, ``""`` is the root; nothing outside can be reached.

    The kinds are ``snapshots.RootView``, ``build.context.Context`` and ``build.listing.ListedContext``.
    """

    def lstat(self, path: str) -> Entry | None:
        """The entry at ``path``, no symlink followed at its end; ``None`` if there is nothing."""
        ...

    def resolve(self, path: str, follow: bool = True) -> str | None:
        """``path`` with its symlinks resolved inside the tree; ``None`` if it leads nowhere."""
        ...

    def iterdir(self, path: str) -> list[Entry]:
        """The entries of a directory; their ``path`` is relative to the tree's root."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A regular file's content."""
        ...


class OpenContext(Tree, Protocol):
    """A build context: a tree that is open, of which an ignore file hides a part."""

    def close(self) -> None: ...

    def with_excludes(self, excludes: Callable[[str, bool], bool]) -> None:
        """Set what is not there, once the ignore file was read through this context."""
        ...


class _Empty:
    """A tree with nothing in it."""

    def lstat(self, path: str) -> Entry | None:
        return None

    def resolve(self, path: str, follow: bool = True) -> str | None:
        return None

    def iterdir(self, path: str) -> list[Entry]:
        return []

    def open(self, path: str) -> BinaryIO:
        raise NotFound(f"there is no {path!r}")


NO_FILES: Tree = _Empty()
