"""The log conmon writes: ``TIME STREAM P|F TEXT``, P for a line that goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_POLL = 0.1
_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogLine:
    time: str
    stream: str
    text: str


class LogParser:
    """Turns pieces of the file into whole lines; partial ones of each stream are joined."""

    def __init__(self) -> None:
        self._rest = b""
        self._open: dict[str, str] = {}

    def feed(self, data: bytes) -> Iterator[LogLine]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for raw in lines:
            parts = raw.decode("utf-8", "replace").split(" ", 3)
            if len(parts) != 4:
                continue  # torn by a full disk or a rotation
            time, stream, mark, text = parts
            text = self._open.pop(stream, "") + text
            if mark == "P":
                self._open[stream] = text
            else:
                yield LogLine(time, stream, text)


async def read_log(path: Path, *, follow: Callable[[], bool], tail: int | None) -> AsyncIterator[LogLine]:
    """The log's lines, the last ``tail`` of what is there, then what comes while ``follow()`` holds."""
    parser = LogParser()
    recent: deque[LogLine] = deque(maxlen=tail)
    try:
        handle = await asyncio.to_thread(path.open, "rb")
    except FileNotFoundError:
        return
    with handle:
        while data := await asyncio.to_thread(handle.read, _BLOCK):
            recent.extend(parser.feed(data))
        for line in recent:
            yield line
        going = True
        while going:
            going = follow()
            while data := await asyncio.to_thread(handle.read, _BLOCK):
                for line in parser.feed(data):
                    yield line
            if going:
                await asyncio.sleep(_POLL)
