"""Mistakes in a Dockerfile, shown with their place."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.errors import Invalid


@dataclass(frozen=True, slots=True)
class Location:
    """Where an instruction stands: file, first and last line (from 1), and its first line's text."""

    file: str
    line: int
    end: int
    text: str

    def at(self, column: int = 1) -> str:
        """``file:line:column``, the line, and a caret below the column."""
        shown = self.text.replace("\t", " ")[:200]
        return f"{self.file}:{self.line}:{column}\n  {shown}\n  {' ' * (column - 1)}^"


class DockerfileError(Invalid):
    """Something in a Dockerfile is wrong; the message shows the line and a caret."""

    def __init__(self, message: str, location: Location, *, word: str = "", hint: str = "") -> None:
        column = location.text.find(word) + 1 if word and word in location.text else 0
        if not column:
            column = len(location.text) - len(location.text.lstrip()) + 1
        place, _, excerpt = location.at(column).partition("\n")
        super().__init__(
            f"{place}: {message}\n{excerpt}", hint=hint, file=location.file, line=location.line, column=column
        )
