"""Blobs that are read while they still come, so that unpacking one does not wait for its last byte."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from slipway.content.writer import Buffer, check, write_all
from slipway.errors import Unavailable
from slipway.oci import Digest


class Arrival:
    """One blob on its way, in a file without a name below ``directory``, which ends with the last who has it.

    One thread at a time calls ``write``, then ``end`` is called once; any thread reads.
    """

    def __init__(self, directory: Path, digest: Digest) -> None:
        self._digest = digest
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 who has it last, closes it
        self._hasher = hashlib.new(digest.algorithm)
        self._size = 0
        self._over = False
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def write(self, piece: Buffer) -> None:
        """Raises ``Exhausted`` when the disk is full."""
        self._hasher.update(piece)
        write_all(self._file.fileno(), piece)
        with self._changed:
            self._size += len(piece)
            self._changed.notify_all()

    def end(self, error: Exception | None = None) -> None:
        """Nothing comes any more. Readers are told ``error``, or that the bytes are not those that were asked for."""
        if error is None:
            try:
                check(Digest.finish(self._hasher), self._size, self._digest, None)
            except Exception as found:
                error = found
        with self._changed:
            self._error, self._over = error, True
            self._changed.notify_all()

    def read_at(self, offset: int, size: int) -> bytes:
        """At least a byte, waited for if need be; none at the end. Raises what went wrong on the way, and ``Invalid``
        at the end of bytes that are not the blob."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._size > offset)
            there = self._size - offset
            if there <= 0 and self._error is not None:
                raise self._error
        return os.pread(self._file.fileno(), min(size, there), offset) if there > 0 else b""


class ArrivingFile(io.RawIOBase):
    """An ``Arrival`` from its beginning. Leaving its block without an error means that all of it came and is right."""

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self._at = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self.read(io.DEFAULT_BUFFER_SIZE):
                pass
        finally:
            self.close()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return self.readall()
        piece = self._arrival.read_at(self._at, size) if size else b""
        self._at += len(piece)
        return piece

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def cut_off(error: BaseException) -> Exception:
    """What readers are told when a transfer ended like that; a cancellation is none of theirs."""
    return error if isinstance(error, Exception) else Unavailable("the transfer was given up")
