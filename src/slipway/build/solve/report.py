"""A build's steps as events: numbered, timed, with every line of output."""

from __future__ import annotations

import codecs
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from slipway.base.progress import Progress
from slipway.build.explain import Inputs
from slipway.build.lint import Finding
from slipway.oci import Descriptor

TAIL_LINES = 20
MAX_LINE = 64 * 1024


class Step:
    """One running step: takes output, knows its last lines.

    ``cached``: its result was there; else ``why`` says why it was not. ``fresh``: it is not to be looked for.
    ``inputs`` says what the ``key`` is made of, which may take a while.
    """

    def __init__(self, reporter: Reporter, label: str, name: str) -> None:
        self._reporter = reporter
        self.label = label
        self.name = name
        self.cached = False
        self.fresh = False
        self.key = ""
        self.inputs: Callable[[], Inputs] = lambda: Inputs("", name)
        self.why: list[str] = []
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._partial: dict[str, str] = {}

    def output(self, stream: str, data: bytes) -> None:
        """A piece of output as it came; whole lines are passed on."""
        decoder = self._decoders.setdefault(stream, codecs.getincrementaldecoder("utf-8")("replace"))
        text = self._partial.get(stream, "") + decoder.decode(data)
        *lines, rest = text.split("\n")
        if len(rest) > MAX_LINE:
            lines, rest = [*lines, rest], ""
        self._partial[stream] = rest
        for line in lines:
            self._line(stream, line)

    def flush(self) -> None:
        for stream, text in self._partial.items():
            if text:
                self._line(stream, text)
        self._partial.clear()

    def layer(self, blob: Descriptor, seconds: float) -> None:
        self._reporter.emit("layer", digest=str(blob.digest), size=blob.size, seconds=seconds)

    def _line(self, stream: str, text: str) -> None:
        # A progress bar redraws its line with carriage returns: its last state is the line.
        text = text.rstrip("\r").rpartition("\r")[2]
        self.tail.append(text)
        self._reporter.emit("build.log", step=self.label, stream=stream, text=text)


class Reporter:
    """Emits the events of one build to ``progress``."""

    def __init__(self, build_id: str, service: str, progress: Progress) -> None:
        self._build_id = build_id
        self._service = service
        self._progress = progress

    def emit(self, event: str, **fields: object) -> None:
        self._progress({"event": event, "build": self._build_id, "service": self._service, **fields})

    def finding(self, finding: Finding) -> None:
        """Something the build checks found, as a warning."""
        self.emit("warning", **describe(finding))

    def warning(self, text: str) -> None:
        self.emit("warning", text=text)

    @contextmanager
    def step(self, label: str, name: str) -> Iterator[Step]:
        """Announces the step, and its end with the time it took unless it failed."""
        step = Step(self, label, name)
        began = time.monotonic()
        self.emit("build.step.start", step=label, name=name)
        try:
            yield step
        finally:
            step.flush()
        seconds = round(time.monotonic() - began, 3)
        self.emit("build.step.done", step=label, name=name, cached=step.cached, seconds=seconds, why=step.why)


def describe(finding: Finding) -> dict[str, object]:
    """A finding as the fields of an event."""
    return {
        "text": str(finding), "rule": finding.rule, "file": finding.location.file, "line": finding.location.line,
        "url": finding.link,
    }  # fmt: skip
