"""What a copied layer depends on: every entry's metadata but its times, and every file's bytes."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from slipway.build.context import ContextFile, file_facts
from slipway.build.keys import frame, key_of
from slipway.build.listing import ListedFile
from slipway.layers import Entry

_BUFFER = 1024 * 1024
_SMALL = 256 * 1024
_SETTLED_NS = 2_000_000_000
_BUCKETS = 1 << 18
_NAME, _HASH = 16, 32
_SLOT = _NAME + _HASH
_WORD = 0xFFFFFFFFFFFFFFFF
_FACTS = struct.Struct("=5Q")


class HashCache:
    """SHA-256 of files, remembered by what the kernel says of them (device, inode, size, mtime, ctime).

    A file that changed within the last two seconds is not remembered: it could change again with the same times.
    Half a million at the most, in 24 MiB outside the heap, each in one of the two places that its facts say: who comes
    third takes the place of an earlier one.
    """

    def __init__(self, buckets: int = _BUCKETS) -> None:
        self._buckets = buckets
        self._table = mmap.mmap(-1, buckets * 2 * _SLOT)
        self._secret = os.urandom(16)  # so that nobody can make files that crowd into one place

    def digest(self, entry: Entry) -> bytes:
        """The hash of a file entry's content, streamed; a file of a context is not even opened if it is known."""
        assert entry.open is not None
        if isinstance(entry.open, ListedFile):
            return entry.open.digest
        looked = entry.open.facts if isinstance(entry.open, ContextFile) else None
        if looked is not None and (known := self._get(looked)) is not None:
            return known
        fd = entry.open()
        try:
            status = os.fstat(fd)
            key = file_facts(status)
            found = self._get(key) if key != looked else None
            if found is None:
                found = _hash(fd)
                if time.time_ns() - status.st_ctime_ns > _SETTLED_NS:
                    self._remember(key, found)
            return found
        finally:
            os.close(fd)

    def _remember(self, key: tuple[int, int, int, int, int], digest: bytes) -> None:
        name, place = self._place(key)
        if self._table[place : place + _NAME] != bytes(_NAME):
            # The first of the two is the younger. Each slice is written at once: threads see old or new.
            self._table[place + _SLOT : place + 2 * _SLOT] = self._table[place : place + _SLOT]
        self._table[place : place + _SLOT] = name + digest

    def _get(self, key: tuple[int, int, int, int, int]) -> bytes | None:
        name, place = self._place(key)
        pair = self._table[place : place + 2 * _SLOT]
        if pair.startswith(name):
            return pair[_NAME:_SLOT]
        return pair[_SLOT + _NAME :] if pair.startswith(name, _SLOT) else None

    def _place(self, key: tuple[int, int, int, int, int]) -> tuple[bytes, int]:
        """What the facts are called in the table, and where the two places for them begin."""
        device, inode, size, modified, changed = key
        packed = _FACTS.pack(device, inode, size, modified & _WORD, changed & _WORD)
        name = hashlib.blake2b(packed, digest_size=_NAME, key=self._secret).digest()
        return name, int.from_bytes(name[:8], "little") % self._buckets * 2 * _SLOT


def _hash(fd: int) -> bytes:
    hasher = hashlib.sha256()
    while chunk := os.read(fd, _BUFFER):
        hasher.update(chunk)
    return hasher.digest()


def content_key(kind: str, definition: bytes, entries: Iterable[Entry], hashes: HashCache) -> str:
    """The key of a layer of ``entries`` (in order). Two layers with equal keys unpack to equal trees.

    Times are left out, as BuildKit does: a fresh checkout must not miss.
    """
    return key_of(kind, (definition, *content_parts(entries, hashes)))


def content_parts(entries: Iterable[Entry], hashes: HashCache) -> list[bytes]:
    """Of each entry, in order, everything that is in the key."""
    found = list(entries)
    large = [entry for entry in found if entry.kind == "file" and entry.size > _SMALL]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        ready = dict(zip((entry.path for entry in large), pool.map(hashes.digest, large), strict=True))
    return [frame(*_parts(entry, ready.get(entry.path), hashes)) for entry in found]


def _parts(entry: Entry, known: bytes | None, hashes: HashCache) -> Iterable[bytes | str]:
    yield entry.path
    yield f"{entry.kind} {entry.mode:o} {entry.uid} {entry.gid} {entry.device}"
    yield entry.target
    for name in sorted(entry.xattrs):
        yield name
        yield entry.xattrs[name]
    if entry.kind == "file":
        yield known if known is not None else hashes.digest(entry)
