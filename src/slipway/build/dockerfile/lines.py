"""From text to logical lines: comments, continuations, heredocs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slipway.build.dockerfile.directives import Directives, read_directives
from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.heredocs import Heredoc, openings, read_heredoc

MAX_LINES = 500_000
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text, continuations joined, with the heredocs that follow it.

    ``gap`` is whether an empty line stood between its continuation lines.
    """

    text: str
    location: Location
    heredocs: tuple[Heredoc, ...] = ()
    escape: str = "\\"
    gap: bool = False


def read(text: bytes | str, file: str) -> tuple[Directives, Iterator[LogicalLine]]:
    """The parser directives, and the logical lines one after the other.

    Raises ``DockerfileError`` for a file that is too long, and for an instruction that is not UTF-8 (a comment may be
    anything).
    """
    content = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    if content.count("\n") > MAX_LINES:
        raise DockerfileError(f"the file has more than {MAX_LINES} lines", Location(file, 1, 1, ""))
    lines = content.removeprefix("\ufeff").split("\n")
    directives = read_directives(lines, file)
    return directives, _logical(lines, file, directives.escape)


def _logical(lines: Sequence[str], file: str, escape: str) -> Iterator[LogicalLine]:
    index = 0
    while index < len(lines):
        start = index
        if _is_comment(lines[index]) or not lines[index].strip():
            index += 1
            continue
        text, index, gap = _continued(lines, index, escape)
        here = Location(file, start + 1, index, "\n".join(lines[start:index]))
        if not text.strip():
            continue
        heredocs: list[Heredoc] = []
        for item in openings(text.strip()):
            heredoc, index = read_heredoc(item, lines, index, here)
            heredocs.append(heredoc)
        line = LogicalLine(
            text.strip(), Location(file, here.line, index, here.text), tuple(heredocs), escape, gap
        )
        _check_characters(line)
        yield line


def _continued(lines: Sequence[str], index: int, escape: str) -> tuple[str, int, bool]:
    """The line at ``index`` with those it continues on; comment and empty lines between them are dropped."""
    parts: list[str] = []
    gap = False
    while index < len(lines):
        line = lines[index].rstrip("\r")
        index += 1
        if parts and _is_comment(line):
            continue
        if parts and not line.strip():
            gap = True
            continue
        stripped = line.rstrip(" \t")
        # A doubled escape stands for itself and continues nothing.
        if not stripped.endswith(escape) or stripped.endswith(escape * 2):
            parts.append(line)
            break
        parts.append(stripped[:-1])
    return "".join(parts), index, gap


def is_text(text: str) -> bool:
    """Whether a process could be given ``text``: no NUL, and nothing that UTF-8 cannot say."""
    return "\0" not in text and not _SURROGATE.search(text)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _check_characters(line: LogicalLine) -> None:
    texts = [line.text, *(heredoc.content for heredoc in line.heredocs)]
    if any("\0" in text for text in texts):
        raise DockerfileError("the instruction contains a NUL character", line.location, word="\0")
    if any(_SURROGATE.search(text) for text in texts):
        raise DockerfileError(
            "the instruction is not UTF-8 text", line.location, hint="save the file in UTF-8 encoding"
        )
