"""The log conmon writes: ``TIME STREAM P|F TEXT``, P for a line that goes on."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_POLL = 0.1
_BLOCK = 1024 * 1024
_LONGEST = 256 * 1024


@dataclass(frozen=True, slots=True)
class LogLine:
    time: str
    stream: str
    text: str


class LogParser:
    """Turns pieces of the file into whole lines; partial ones of each stream are joined.

    A line longer than 256 KiB comes in several parts, so that a container that never ends one takes no memory.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._open: dict[str, LogLine] = {}

    def feed(self, data: bytes) -> Iterator[LogLine]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            parts = raw.decode("utf-8", "replace").split(" ", 3)
            if len(parts) != 4:
                continue  # torn by a full disk or a rotation
            time, stream, mark, text = parts
            if stream in self._open:
                text = self._open.pop(stream).text + text
            if mark == "P" and len(text) < _LONGEST:
                self._open[stream] = LogLine(time, stream, text)
            else:
                yield LogLine(time, stream, text)

    def rest(self) -> Iterator[LogLine]:
        """What was written without an end of line, when nothing more comes."""
        yield from self._open.values()
        self._open.clear()


class _Reader:
    """The bytes of a log, across conmon's rotations: it renames an empty file over a full one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: BinaryIO | None = None

    def read(self) -> bytes:
        """What is there to read now; nothing at the end."""
        if self._handle is None:
            try:
                self._handle = self._path.open("rb", buffering=0)
            except FileNotFoundError:
                return b""
        rotated = self._rotated()  # asked first: what is written before it happens is read
        data = self._handle.read(_BLOCK)
        if not data and rotated:
            self.close()
            return self.read()
        return data

    def _rotated(self) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return self._handle is not None and now.st_ino != os.fstat(self._handle.fileno()).st_ino

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


async def read_log(path: Path, *, follow: Callable[[], bool], tail: int | None) -> AsyncIterator[LogLine]:
    """The log's lines, the last ``tail`` of what is there, then what comes while ``follow()`` holds."""
    parser, reader = LogParser(), _Reader(path)
    try:
        if tail is not None:
            recent: deque[LogLine] = deque(maxlen=tail)
            while data := await asyncio.to_thread(reader.read):
                recent.extend(parser.feed(data))
            if not follow():
                recent.extend(parser.rest())
            for line in recent:
                yield line
        going = True
        while going:
            going = follow()
            while data := await asyncio.to_thread(reader.read):
                for line in parser.feed(data):
                    yield line
            if going:
                await asyncio.sleep(_POLL)
        for line in parser.rest():
            yield line
    finally:
        reader.close()
