"""Mistakes in a Dockerfile, shown with their place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slipway.errors import Invalid

_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Location:
    """Where an instruction stands: file, first and last line (from 1).

    ``text`` is the instruction's own physical lines, joined with newlines, without the heredocs that follow.
    """

    file: str
    line: int
    end: int
    text: str

    def find(self, word: str) -> tuple[int, int]:
        """Line and column (from 1) of ``word``, whole words first; without one, of the instruction."""
        start = len(self.text) - len(self.text.lstrip())
        if word:
            whole = re.search(rf"(?<![\w$]){re.escape(word)}(?!\w)", self.text)
            found = whole.start() if whole else self.text.find(word)
            start = found if found >= 0 else start
        before = self.text[:start]
        return self.line + before.count("\n"), start - (before.rfind("\n") + 1) + 1

    def excerpt(self, line: int, column: int) -> str:
        """One source line, and a caret below the column; a very long line is cut around it."""
        shown = self.text.split("\n")[line - self.line].rstrip("\r").replace("\t", " ")
        skipped = max(0, column - _SHOWN // 2) if len(shown) > _SHOWN else 0
        shown = "".join(char if char.isprintable() else "?" for char in shown[skipped : skipped + _SHOWN])
        return f"  {shown}\n  {' ' * (column - 1 - skipped)}^"


class DockerfileError(Invalid):
    """Something in a Dockerfile is wrong; the message begins with the place and ends with the line and a caret."""

    def __init__(self, message: str, location: Location, *, word: str = "", hint: str = "") -> None:
        line, column = location.find(word)
        super().__init__(
            f"{location.file}:{line}:{column}: {message}\n{location.excerpt(line, column)}",
            hint=hint,
            file=location.file,
            line=line,
            column=column,
        )
