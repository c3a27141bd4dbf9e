"""Why a step had to run: what it depended on last time, next to what it depends on now.

A *line* of builds is one image of one project for one platform. What its steps depended on is kept as one compressed
JSON document for each line, ``directory/<sha256 of the line>``; a damaged or missing one only means a poorer answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from slipway.base.ids import new_id

MAX_FILES = 50_000
_SHOWN = 5
_VALUE = 60
_MAX_DOCUMENT = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a step's key is made of: ``facts`` by a name a person understands, ``files`` as path to fingerprint."""

    key: str
    name: str
    facts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class Trace:
    """The steps of a line's last build, read when a step first misses, and those of the present one as they come.

    Of a step that was found only its key is noted: what it depends on is known if that is what it depended on before.
    """

    def __init__(self, load: Callable[[], Mapping[str, Sequence[Inputs]]]) -> None:
        self._load = load
        self._now: dict[str, dict[int, Inputs]] = {}
        self.missed_any = False

    @cached_property
    def _before(self) -> Mapping[str, Sequence[Inputs]]:
        return self._load()

    def known(self, stage: str, key: str) -> Inputs | None:
        """What the step of this key depended on last time."""
        return next((item for item in self._before.get(stage, ()) if item.key == key), None)

    def cached(self, stage: str, number: int, key: str, name: str) -> None:
        """Note a step whose result was there."""
        self._now.setdefault(stage, {})[number] = Inputs(key, name)

    def missed(self, stage: str, number: int, inputs: Inputs) -> list[str]:
        """Remember a step that had to run; the reasons why, the most telling first. May read a file."""
        self.missed_any = True
        self._now.setdefault(stage, {})[number] = inputs
        if not self._before:
            return ["the first build of this image here"]
        return _reasons(self._earlier(stage, number, inputs), inputs)

    def _earlier(self, stage: str, number: int, inputs: Inputs) -> Inputs | None:
        """The step of the same text, or else the one in the same place."""
        steps = self._before.get(stage, ())
        same = self.known(stage, inputs.key) or next(
            (item for item in steps if item.name == inputs.name), None
        )
        return same or (steps[number - 1] if number <= len(steps) else None)

    @property
    def steps(self) -> dict[str, list[Inputs]]:
        """What the next build is compared with: this one, and of stages it did not come to, the one before."""
        found = {stage: list(steps) for stage, steps in self._before.items()}
        for stage, steps in self._now.items():
            found[stage] = [self.known(stage, steps[number].key) or steps[number] for number in sorted(steps)]
        return found


class Traces:
    """The traces on disk. Blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def of(self, line: str) -> Trace:
        return Trace(lambda: self._read(line))

    def _read(self, line: str) -> dict[str, list[Inputs]]:
        try:
            value = json.loads(zlib.decompressobj().decompress(self.packed(line), _MAX_DOCUMENT))
            return {stage: [Inputs(**item) for item in steps] for stage, steps in value.items()}
        except (OSError, ValueError, TypeError, AttributeError, zlib.error):
            return {}

    def packed(self, line: str) -> bytes:
        """The document as it is kept, compressed; empty if there is none."""
        try:
            return self._path(line).read_bytes()
        except OSError:
            return b""

    def save(self, line: str, trace: Trace) -> None:
        """Replace the line's trace, if any step had to run. A full disk must not fail a build that has succeeded."""
        if not trace.missed_any:
            return
        value = {stage: [_plain(item) for item in steps] for stage, steps in trace.steps.items()}
        self.replace(line, zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1))

    def replace(self, line: str, packed: bytes) -> None:
        """Put another document in its place, compressed."""
        path = self._path(line)
        draft = path.with_name(f"{path.name}.{new_id()}")
        with suppress(OSError):
            draft.write_bytes(packed)
            # A rename over a file makes ext4 write the new one out first, behind whatever the build has just written.
            path.unlink(missing_ok=True)
            os.rename(draft, path)
        draft.unlink(missing_ok=True)

    def prune(self, older_than: float) -> int:
        """Remove traces last written before this time (seconds since the epoch); how many."""
        gone = [path for path in self._directory.iterdir() if path.stat().st_mtime < older_than]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _path(self, line: str) -> Path:
        return self._directory / hashlib.sha256(line.encode("utf-8", "surrogateescape")).hexdigest()


def fingerprints(paths: Iterable[str], parts: Iterable[bytes]) -> dict[str, str]:
    """Path to a short hash of everything of the entry that is in the key."""
    pairs = zip(paths, parts, strict=True)
    return {path: hashlib.blake2b(part, digest_size=8).hexdigest() for path, part in pairs}


def _reasons(before: Inputs | None, now: Inputs) -> list[str]:
    if before is None:
        return ["this step is new"]
    if before.key == now.key:
        return ["its result is no longer in the cache"]
    found = []
    for name in sorted(before.facts.keys() | now.facts.keys()):
        old, new = before.facts.get(name), now.facts.get(name)
        if old != new:
            found.append(_fact(name, old, new))
    if before.files != now.files:
        found += _files(before.files, now.files)
    return found or ["something it depends on changed that was not recorded"]


def _fact(name: str, old: str | None, new: str | None) -> str:
    if old is None:
        return f"{name} is new: {_short(new or '')}"
    if new is None:
        return f"{name} is gone, it was {_short(old)}"
    return f"{name} changed: {_short(old)} -> {_short(new)}"


def _files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    if not before or not now:
        return ["the files changed"]
    kinds = {
        "changed": [path for path in now if path in before and before[path] != now[path]],
        "new": [path for path in now if path not in before],
        "gone": [path for path in before if path not in now],
    }
    found = []
    for kind, paths in kinds.items():
        if paths:
            more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            found.append(f"{kind}: {', '.join(sorted(paths)[:_SHOWN])}{more}")
    return found


def _short(text: str) -> str:
    shown = text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"
    return repr(shown)


def _plain(inputs: Inputs) -> dict[str, Any]:
    return {
        "key": inputs.key, "name": inputs.name, "facts": dict(inputs.facts), "files": dict(inputs.files),
    }  # fmt: skip
