"""From entries to a layer in the content store, streaming."""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from slipway.content import ContentStore
from slipway.errors import Invalid
from slipway.layers.compression import MEDIA_TYPES, Compression, compressor
from slipway.layers.entry import Entry
from slipway.layers.tar import END, header, padding
from slipway.oci import Descriptor, Digest

_BLOCK = 1024 * 1024
_AHEAD = 4
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer in the store: its (compressed) blob, the digest and size of the tar within."""

    descriptor: Descriptor
    diff_id: Digest
    uncompressed: int


def write_layer(
    store: ContentStore,
    entries: Iterable[Entry],
    *,
    compression: Compression = "gzip",
    epoch: int | None = None,
) -> Layer:
    """Write ``entries`` (parents before children) as a layer.

    ``epoch`` (SOURCE_DATE_EPOCH) clamps newer times. Raises ``Invalid`` when a file changes while it is read and
    ``Exhausted`` when the disk is full; nothing is stored then.
    """
    return write_tar(store, tar_blocks(entries, epoch), compression=compression)


def write_tar(store: ContentStore, tar: Iterable[bytes], *, compression: Compression = "gzip") -> Layer:
    """Store a finished tar, in pieces of any size, as a layer. Nothing is stored when ``tar`` raises."""
    hasher = hashlib.sha256()
    total = 0
    pack = compressor(compression)
    with store.writer() as writer, _Stage(writer.write) as storing:
        with (
            _Stage(hasher.update) as hashing,
            _Stage(lambda block: storing.put(pack.compress(block))) as packing,
        ):
            for block in tar:
                total += len(block)
                hashing.put(block)
                packing.put(block)
        storing.put(pack.flush())
        storing.finish()
        digest, size = writer.commit()
    return Layer(Descriptor(MEDIA_TYPES[compression], digest, size), Digest.finish(hasher), total)


class _Stage:
    """A thread that does one thing with each block, a few blocks behind. Its error is raised at the next ``put``."""

    def __init__(self, work: Callable[[bytes], object]) -> None:
        self._work = work
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Stage:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self._end()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, block: bytes) -> None:
        if self._error is not None:
            raise self._error
        if block:
            self._queue.put(block)

    def finish(self) -> None:
        """Wait until everything was worked on."""
        self._end()
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (block := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._work(block)
                except BaseException as error:
                    self._error = error


def tar_blocks(entries: Iterable[Entry], epoch: int | None = None) -> Iterator[bytes]:
    """The tar of ``entries`` (parents before children) in pieces of about a mebibyte."""
    return _blocks(_tar(entries, epoch))


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces joined to blocks of about a mebibyte."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(gathered) if len(gathered) > 1 else piece
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _tar(entries: Iterable[Entry], epoch: int | None) -> Iterator[bytes]:
    for entry in entries:
        if not entry.path:
            continue  # the root directory itself is not part of a layer
        yield header(entry, epoch)
        if entry.kind == "file" and entry.size:
            yield from _body(entry)
            if pad := padding(entry.size):
                yield pad
    yield END


def _body(entry: Entry) -> Iterator[bytes]:
    count = 0
    for chunk in entry.chunks() if entry.chunks else _read(entry):
        count += len(chunk)
        if count > entry.size:
            break
        yield chunk
    if count != entry.size:
        raise _changed(entry)


def _changed(entry: Entry) -> Invalid:
    return Invalid(f"{entry.path!r} changed while it was read", hint="run the same again")


def _read(entry: Entry) -> Iterator[bytes]:
    assert entry.open is not None, entry.path
    try:
        fd = entry.open()
    except OSError as error:
        if error.errno not in _GONE:
            raise
        raise _changed(entry) from error
    try:
        left, before = entry.size, os.fstat(fd).st_mtime_ns
        while left and (chunk := os.read(fd, min(_BLOCK, left))):
            left -= len(chunk)
            yield chunk
        # Half of it may be of before and half of after.
        if entry.size > _BLOCK and os.fstat(fd).st_mtime_ns != before:
            raise _changed(entry)
    finally:
        os.close(fd)
