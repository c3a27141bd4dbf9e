"""``$variable`` in Dockerfile words: every form, with the quotes and escapes of Docker's own lexer.

A text is first read into pieces, then the pieces are evaluated, so that ``${A:-${B:?why}}`` complains only when ``A``
is not set. Values are bounded: a few lines that double each other must not fill the memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from slipway.build.dockerfile import patterns
from slipway.build.dockerfile.expressions import Literal, Piece, Reader, Variable

MAX_VALUE = 256 * 1024
_MAX_WORK = 32 * MAX_VALUE
Fail = Callable[[str], Exception]


class _Evaluation:
    def __init__(self, values: Mapping[str, str], fail: Fail) -> None:
        self._values = values
        self._fail = fail
        self._work = 0

    def text(self, pieces: Sequence[Piece], limit: int = MAX_VALUE) -> str:
        found: list[str] = []
        for piece in pieces:
            found.append(self._piece(piece))
            limit -= len(found[-1])
            if limit < 0:
                raise self._fail(
                    f"a value is longer than {MAX_VALUE} characters once its variables are expanded"
                )
        return "".join(found)

    def words(self, pieces: Sequence[Piece]) -> list[str]:
        """Split at white space that is not quoted; what a variable brings is split too, unless it is quoted."""
        words: list[str] = []
        inside = False
        for piece in pieces:
            for text in [self._piece(piece)] if piece.quoted else re.split(r"(\s+)", self._piece(piece)):
                if text.isspace() and not piece.quoted:
                    inside = False
                elif inside:
                    words[-1] += text
                elif text or piece.quoted:
                    words.append(text)
                    inside = True
        return [word for word in words if word]

    def _piece(self, piece: Piece) -> str:
        return piece.text if isinstance(piece, Literal) else self._variable(piece)

    def _variable(self, item: Variable) -> str:
        value = self._values.get(item.name)
        operator = item.operator
        missing = value is None or (item.null_is_unset and not value)
        if operator == "-":
            return self.text(item.operand) if missing else value or ""
        if operator == "+":
            return "" if missing else self.text(item.operand)
        if operator == "?" and missing:
            why = self.text(item.operand) or ("is not set" if value is None else "is empty")
            raise self._fail(f"{item.name}: {why}")
        if operator in ("", "?"):
            return value or ""
        try:
            return self._matched(item, value or "")
        except ValueError as error:
            raise self._fail(f"in ${{{item.name}…}}: {error}") from error

    def _matched(self, item: Variable, value: str) -> str:
        self._work += len(value)
        if self._work > _MAX_WORK:
            raise ValueError("too many patterns over too long values in one word")
        pattern, longest = self.text(item.operand), len(item.operator) == 2
        if item.operator[0] != "/":
            return patterns.trim(value, pattern, suffix=item.operator[0] == "%", longest=longest)
        return patterns.replace(value, pattern, self.text(item.replacement), every=longest, limit=MAX_VALUE)


def expand(text: str, values: Mapping[str, str], fail: Fail, *, escape: str = "\\", raw: bool = False) -> str:
    """``text`` as one word. Errors are what ``fail(message)`` returns.

    ``raw`` is for heredocs: quotes are ordinary there, and a backslash is special only before ``$``, itself and the
    end of a line, as in a shell.
    """
    # What is written down may be as long as it is; only what variables make of it is bounded.
    return _Evaluation(values, fail).text(Reader(text, escape, fail, raw).pieces(), MAX_VALUE + len(text))


def expand_words(text: str, values: Mapping[str, str], fail: Fail, *, escape: str = "\\") -> list[str]:
    """``text`` split at unquoted white space, each word expanded."""
    return _Evaluation(values, fail).words(Reader(text, escape, fail, False).pieces())
