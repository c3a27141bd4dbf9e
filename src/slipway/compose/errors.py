"""Mistakes in a Compose file, shown with their place."""

from __future__ import annotations

from slipway.errors import Invalid


class ComposeError(Invalid):
    """``file:line:column: message``, the line and a caret."""

    def __init__(
        self, message: str, *, file: str, line: int, column: int, text: str = "", hint: str = ""
    ) -> None:
        shown = text.replace("\t", " ")[:200]
        excerpt = f"\n  {shown}\n  {' ' * (column - 1)}^" if shown else ""
        super().__init__(
            f"{file}:{line}:{column}: {message}{excerpt}", hint=hint, file=file, line=line, column=column
        )
