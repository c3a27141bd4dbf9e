"""From text to logical lines: directives, comments, continuations, heredocs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.instructions import Heredoc

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"(?<!\S)(\d*)<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_.]*)\3(?=\s|$)")
_KNOWN = ("syntax", "escape", "check")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
MAX_LINES = 500_000


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's text, continuations joined, with the heredocs that follow it."""

    text: str
    location: Location
    heredocs: tuple[Heredoc, ...] = ()


def read(text: str, file: str) -> tuple[dict[str, str], Iterator[LogicalLine]]:
    """The parser directives, and the logical lines."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    directives = _directives(lines, file)
    return directives, _logical(lines, file, directives.get("escape", "\\"))


def _directives(lines: list[str], file: str) -> dict[str, str]:
    """Only at the very top; anything else, even another comment, ends them."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _KNOWN:
            break
        name, value = match[1].lower(), match[2]
        here = Location(file, number, number, line)
        if name in found:
            raise DockerfileError(f"the directive {name!r} is given twice", here, word=match[1])
        if name == "escape" and value not in ("\\", "`"):
            raise DockerfileError(f"not an escape character: {value!r}", here, word=value, hint="use \\ or `")
        found[name] = value
    return found


def _logical(lines: list[str], file: str, escape: str) -> Iterator[LogicalLine]:
    index = 0
    while index < len(lines):
        start, first = index, lines[index]
        index += 1
        if not first.strip() or first.lstrip().startswith("#"):
            continue
        text, index = _continued(first, lines, index, escape)
        location = Location(file, start + 1, index, first)
        if not text.strip():
            continue
        heredocs: list[Heredoc] = []
        if text.split(None, 1)[0].upper() in _WITH_HEREDOCS or text.split(None, 1)[0].upper() == "ONBUILD":
            for match in _HEREDOC.finditer(text):
                heredoc, index = _heredoc(match, lines, index, location)
                heredocs.append(heredoc)
        yield LogicalLine(text.strip(), Location(file, start + 1, index, first), tuple(heredocs))


def _continued(first: str, lines: list[str], index: int, escape: str) -> tuple[str, int]:
    """``first`` joined with what its trailing escapes continue; comment and empty lines inside are dropped."""
    parts: list[str] = []
    line = first
    while True:
        stripped = line.rstrip()
        if not stripped.endswith(escape):
            parts.append(line)
            return "".join(parts), index
        parts.append(stripped[:-1])
        while index < len(lines) and (not lines[index].strip() or lines[index].lstrip().startswith("#")):
            index += 1
        if index >= len(lines):
            return "".join(parts), index
        line = lines[index]
        index += 1


def _heredoc(match: re.Match[str], lines: list[str], index: int, location: Location) -> tuple[Heredoc, int]:
    strip, quoted, name = match[2] == "-", bool(match[3]), match[4]
    body: list[str] = []
    while index < len(lines):
        line = lines[index]
        index += 1
        if (line.lstrip("\t") if strip else line) == name:
            return Heredoc(name, "".join(body), expand=not quoted), index
        body.append((line.lstrip("\t") if strip else line) + "\n")
    raise DockerfileError(f"the heredoc <<{name} is not closed", location, word=f"<<{match[2]}{match[3]}{name}",
                          hint=f"end it with a line that says {name}")  # fmt: skip
