"""A dump of an OSV database (ossf.github.io/osv-schema), one advisory after the other.

Read are an archive of JSON documents (``all.zip`` of an ecosystem, as osv.dev publishes it), a file with one record a
line, and a single document (a record or a list of them). The form is told by the content, not by the name. At no time
is more in memory than one record, whose size has a limit. What is no record is skipped and counted; a file that is
damaged as a whole, or in which there is no record at all, is ``Invalid``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from slipway.errors import Invalid, NotFound
from slipway.registry.findings import archive
from slipway.registry.findings.advisories import Advisory
from slipway.registry.findings.record import parse

_MOST_REASONS = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """``record``: bytes of one record (and of a single document); ``total``: bytes of all of an archive's;
    ``ratio``: how many times its size an archive may expand to."""

    record: int = 16 * 1024 * 1024
    records: int = 5_000_000
    total: int = 64 * 1024**3
    ratio: int = 200


LIMITS = Limits()


@dataclass(slots=True)
class Counts:
    """What came of a file's records, filled while it is read. ``reasons`` has the first few things skipped;
    ``unused`` is for who keeps them: advisories without a package that could be matched."""

    read: int = 0
    withdrawn: int = 0
    skipped: int = 0
    unused: int = 0
    reasons: list[str] = field(default_factory=list)

    def skip(self, place: str, reason: str) -> None:
        self.skipped += 1
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(f"{place}: {reason}"[:300])


@dataclass(frozen=True, slots=True)
class _Document:
    """Bytes that should be a record, or the reason why they could not be had."""

    place: str
    data: bytes = b""
    problem: str = ""


def read(path: Path, counts: Counts | None = None, limits: Limits = LIMITS) -> Iterator[Advisory]:
    """The advisories of a dump that were not withdrawn. Raises ``Invalid`` and ``NotFound``, at any step."""
    counts = Counts() if counts is None else counts
    try:
        for document in _documents(path, limits):
            for place, value in _values(document, counts):
                try:
                    advisory = parse(value)
                except Invalid as error:
                    counts.skip(place, error.message)
                    continue
                if advisory is None:
                    counts.withdrawn += 1
                else:
                    counts.read += 1
                    yield advisory
                if counts.read + counts.withdrawn > limits.records:
                    raise Invalid(f"{path.name}: more than {limits.records} records")
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except OSError as error:
        raise Invalid(f"{path}: cannot be read: {error.strerror}") from error
    if counts.read + counts.withdrawn == 0:
        reason = counts.reasons[0] if counts.reasons else "it is empty"
        raise Invalid(
            f"{path.name} has no OSV record: {reason}",
            hint="all.zip of an ecosystem from osv.dev, one JSON record a line, or a single JSON document",
        )


def _values(document: _Document, counts: Counts) -> Iterator[tuple[str, object]]:
    """The decoded records of a document, each with its place for a message."""
    if document.problem:
        counts.skip(document.place, document.problem)
        return
    try:
        value = json.loads(document.data)
    except RecursionError:
        counts.skip(document.place, "nested too deeply")
        return
    except ValueError as error:
        counts.skip(document.place, f"no JSON: {error}")
        return
    if isinstance(value, list):
        yield from ((f"{document.place}, entry {index}", item) for index, item in enumerate(value, 1))
    else:
        yield document.place, value


def _documents(path: Path, limits: Limits) -> Iterator[_Document]:
    with path.open("rb") as handle:
        head = handle.read(4)
        handle.seek(0)
        if head in archive.SIGNATURES:
            yield from _archived(path, handle, limits)
        elif _by_line(handle, limits):
            yield from _lines(handle, limits)
        else:
            data = handle.read(limits.record + 1)
            if len(data) > limits.record:
                raise Invalid(
                    f"{path.name} is a single document of more than {limits.record} bytes",
                    hint="larger ones are read with one record a line, or as an archive",
                )
            yield _Document(path.name, data)


def _archived(path: Path, handle: BinaryIO, limits: Limits) -> Iterator[_Document]:
    for member in archive.members(path, limits.records, limits.total, limits.ratio):
        if not member.name.endswith(".json"):
            continue
        try:
            yield _Document(member.name, archive.content(handle, member, limits.record))
        except Invalid as error:
            yield _Document(member.name, problem=error.message)


def _by_line(handle: BinaryIO, limits: Limits) -> bool:
    """Whether the first line that is not blank is an object by itself; the handle is left at the start."""
    line = b"\n"
    while line and not line.strip():
        line = handle.readline(limits.record + 1)
    handle.seek(0)
    line = line.strip().removeprefix(b"\xef\xbb\xbf")
    return line.startswith(b"{") and line.endswith(b"}")


def _lines(handle: BinaryIO, limits: Limits) -> Iterator[_Document]:
    number = 0
    while line := handle.readline(limits.record + 1):
        number += 1
        if len(line) <= limits.record:
            if line.strip():
                yield _Document(f"line {number}", line.strip())
            continue
        while line and not line.endswith(b"\n"):
            line = handle.readline(limits.record)
        yield _Document(f"line {number}", problem=f"more than {limits.record} bytes")
