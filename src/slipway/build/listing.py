"""A directory's content as a list with hashes, and the tree that such a list is elsewhere.

A build that is carried out on another machine needs a name, a mode and a hash of every file to know what is in its
cache, and the bytes of few: those that a step copies which has to run. A list is JSON lines: first the documents that
can be read although the ignore file hides them, then ``[path, kind, mode, mtime, size, target, hash]`` of each entry,
parents first. Bytes that are no UTF-8 are surrogates.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from slipway.build.context import Excludes, nothing
from slipway.build.tree import Tree
from slipway.errors import Invalid, NotFound
from slipway.layers import Entry, Kind
from slipway.snapshots import resolved

_LARGE = 256 * 1024


class Hashes(Protocol):
    """``slipway.build.copy.HashCache``."""

    def digest(self, entry: Entry) -> bytes: ...


class ListedFile:
    """Opens one file of a list, which is fetched if it is not here yet. ``digest`` is the SHA-256 of its content."""

    __slots__ = ("_context", "digest", "index", "size")

    def __init__(self, context: ListedContext, index: int, digest: bytes, size: int) -> None:
        self._context = context
        self.index = index
        self.digest = digest
        self.size = size

    def __call__(self) -> int:
        path = self.path
        if not path.exists():
            self._context.fetch([self])
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def path(self) -> Path:
        """Where its content is once it was fetched."""
        return self._context.files / self.digest.hex()

    @property
    def context(self) -> ListedContext:
        return self._context


Fetch = Callable[[Sequence[ListedFile]], None]


class ListedContext:
    """The tree of a list. ``fetch`` brings files to where their ``path`` says; it blocks, and verifies."""

    def __init__(self, lines: Iterable[bytes], files: Path, fetch: Fetch) -> None:
        self.files = files
        self.fetch = fetch
        self._excludes: Excludes = nothing
        self._entries: dict[str, Entry] = {"": Entry("", "dir", 0o755)}
        self._below: dict[str, list[Entry]] = {"": []}
        left = iter(lines)
        self._documents: dict[str, bytes] = {
            name: text.encode("utf-8", "surrogateescape") for name, text in json.loads(next(left)).items()
        }
        for index, line in enumerate(left):
            self._add(index, json.loads(line))

    def _add(self, index: int, row: Sequence[Any]) -> None:
        path, kind, mode, mtime, size, target, digest = row
        opener = ListedFile(self, index, bytes.fromhex(digest), size) if kind == "file" else None
        entry = Entry(path, cast(Kind, kind), mode, 0, 0, mtime, size, target=target, open=opener)
        self._entries[path] = entry
        self._below[path.rpartition("/")[0]].append(entry)
        if kind == "dir":
            self._below[path] = []

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> ListedContext:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def with_excludes(self, excludes: Excludes) -> None:
        """What is not there; the documents are not, from now on, unless the list has them, too."""
        self._excludes = excludes
        self._documents = {}

    def lstat(self, path: str) -> Entry | None:
        found = self._entries.get(path)
        return None if found is None or self._hidden(found) else found

    def resolve(self, path: str, follow: bool = True) -> str | None:
        return path if path in self._documents else resolved(self.lstat, path, follow)

    def iterdir(self, path: str) -> list[Entry]:
        return [entry for entry in self._below.get(path, ()) if not self._hidden(entry)]

    def open(self, path: str) -> BinaryIO:
        if path in self._documents:
            return _memory(self._documents[path])
        entry = self.lstat(path)
        if entry is None or entry.open is None:
            raise NotFound(f"there is no file {path!r} in the context")
        return os.fdopen(entry.open(), "rb")

    def _hidden(self, entry: Entry) -> bool:
        return bool(entry.path) and self._excludes(entry.path, entry.kind == "dir")


def _memory(data: bytes) -> BinaryIO:
    fd = os.memfd_create("document")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return os.fdopen(fd, "rb")


def gather(entries: Iterable[Entry]) -> None:
    """Bring the contents of ``entries`` here that are not, in one go for each list they come from. Blocks."""
    wanted: dict[int, dict[bytes, ListedFile]] = {}
    for entry in entries:
        if isinstance(entry.open, ListedFile) and not entry.open.path.exists():
            wanted.setdefault(id(entry.open.context), {})[entry.open.digest] = entry.open
    for files in wanted.values():
        found = sorted(files.values(), key=lambda item: item.index)
        found[0].context.fetch(found)


class Listing:
    """The list of an open context, and the contents of its files. Blocks."""

    def __init__(
        self, context: Tree, hashes: Hashes, documents: Mapping[str, bytes], below: str = ""
    ) -> None:
        self._entries = list(_walk(context, below))
        self._documents = documents
        self._hashes = hashes

    def lines(self) -> Iterator[bytes]:
        texts = {name: data.decode("utf-8", "surrogateescape") for name, data in self._documents.items()}
        yield json.dumps(texts).encode() + b"\n"
        large = [entry for entry in self._entries if entry.kind == "file" and entry.size > _LARGE]
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            ready = dict(zip((e.path for e in large), pool.map(self._hashes.digest, large), strict=True))
        for entry in self._entries:
            digest = ready.get(entry.path) or (self._hashes.digest(entry) if entry.kind == "file" else b"")
            row = (entry.path, entry.kind, entry.mode, entry.mtime, entry.size, entry.target, digest.hex())
            yield json.dumps(row).encode() + b"\n"

    def contents(self, indexes: Sequence[int], piece: int = 1 << 20) -> Iterator[bytes]:
        """The files at these places of the list, one after the other. Raises ``Invalid`` for one that changed."""
        held: list[bytes] = []
        size = 0
        for index in indexes:
            entry = self._entries[index]
            if entry.open is None:
                raise Invalid(f"{entry.path!r} is no file")
            left = entry.size
            with os.fdopen(entry.open(), "rb", buffering=0) as handle:
                while left and (data := handle.read(min(left, piece))):
                    left -= len(data)
                    size += len(data)
                    held.append(data)
                    if size >= piece:
                        yield b"".join(held)
                        held, size = [], 0
            if left:
                raise Invalid(f"{entry.path!r} changed while it was read", hint="run the same again")
        if held:
            yield b"".join(held)


def _walk(context: Tree, below: str) -> Iterator[Entry]:
    """Depth first, parents first, sorted; paths are relative to the context's root, also with ``below``."""
    parts = below.split("/") if below else []
    for length in range(1, len(parts) + 1):
        entry = context.lstat("/".join(parts[:length]))
        if entry is not None:
            yield entry
    pending = [below]
    while pending:
        for entry in sorted(context.iterdir(pending.pop()), key=lambda item: item.path, reverse=True):
            yield entry
            if entry.kind == "dir":
                pending.append(entry.path)
