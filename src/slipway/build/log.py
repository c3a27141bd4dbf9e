"""The log of one build that runs, which is passed on whole and kept up to a size."""

from __future__ import annotations

import json
from collections import deque

from slipway.base.progress import Event, Progress
from slipway.build.logs import LogWriter

_MOST_AT_END = 1 << 20
_TOO_FAST = "they could not be stored in time"


class BuildLog:
    """Passes events on, and into the build's log: its beginning as it comes, and when that is full its very end.

    Where lines are left out, a warning says how many: also when they came faster than they could be stored.
    """

    def __init__(self, writer: LogWriter, progress: Progress, size: int) -> None:
        """``size`` in bytes is what is kept, a quarter of it (or a MiB) for the end, but the last line in any case."""
        self._writer = writer
        self._progress = progress
        self._end_size = min(_MOST_AT_END, size // 4)
        self._room = size - self._end_size
        self._said = f"the log is larger than {size} bytes (build.log_size)"
        self._end: deque[bytes] = deque()
        self._left_out = 0
        self._about: dict[str, object] = {}
        self._closed = False

    def __call__(self, event: Event) -> None:
        line = _line(event)
        if self._closed:  # nobody follows it any more, and no step runs: few lines come
            self._writer.write(line)
            return
        self._about = {name: event[name] for name in ("build", "service") if name in event}
        if self._end or len(line) > self._room:
            self._keep_for_the_end(line)
        else:
            self._keep(line)
        self._progress(event)

    def _keep(self, line: bytes) -> None:
        if self._left_out and self._writer.write(self._gap(_TOO_FAST)):
            self._left_out = 0
        if not self._left_out and self._writer.write(line):
            self._room -= len(line)
        else:
            self._left_out += 1

    def _keep_for_the_end(self, line: bytes) -> None:
        if not self._end:
            self._writer.write(self._warning(f"{self._said}: of what follows only the end is kept"))
        self._end.append(line)
        self._end_size -= len(line)
        while self._end_size < 0 and len(self._end) > 1:
            self._end_size += len(self._end.popleft())
            self._left_out += 1

    def _gap(self, why: str) -> bytes:
        return self._warning(f"{self._left_out} lines left out: {why}")

    def _warning(self, text: str) -> bytes:
        return _line({"event": "warning", **self._about, "text": text})

    async def close(self) -> None:
        self._closed = True
        await self._writer.close()
        if self._left_out or self._end:  # now there is nothing before it that waits
            why = self._said if self._end else _TOO_FAST
            gap = [self._gap(why)] if self._left_out else []
            self._writer.write(b"".join([*gap, *self._end]))
            await self._writer.close()


def _line(event: Event) -> bytes:
    return json.dumps(dict(event)).encode() + b"\n"
