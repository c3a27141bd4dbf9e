"""Reading a word with quotes, escapes and ``$`` forms into pieces; nothing is evaluated here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

_NAME = re.compile(r"[^\W\d]\w*|[0-9]+|[@*#?$!-]")
_OPERATORS = re.compile(r"##?|%%?|//?|[-+?]")
_PLAIN = re.compile(r"""[^$'"\\`}/]+""")
_MAX_DEPTH = 50
Fail = Callable[[str], Exception]


@dataclass(frozen=True, slots=True)
class Literal:
    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """``${name<operator>operand}``; with ``null_is_unset`` (``:``) an empty value counts as none."""

    name: str
    operator: str = ""
    null_is_unset: bool = False
    operand: tuple[Piece, ...] = ()
    replacement: tuple[Piece, ...] = ()
    quoted: bool = False


Piece = Literal | Variable


class Reader:
    """One pass over one text; see ``substitution.expand`` for what ``raw`` means."""

    def __init__(self, text: str, escape: str, fail: Fail, raw: bool) -> None:
        self._text, self._escape, self._fail, self._raw = text, escape, fail, raw
        self._at = 0
        self._depth = 0

    def pieces(self) -> tuple[Piece, ...]:
        return self._until("", keep_escapes=False)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _plain(self) -> str:
        """A run of characters without any meaning, or the one that is next."""
        match = _PLAIN.match(self._text, self._at)
        text = match[0] if match else self._peek()
        self._at += len(text)
        return text

    def _until(self, stop: str, *, keep_escapes: bool) -> tuple[Piece, ...]:
        """Pieces up to the character ``stop`` (or the end). ``keep_escapes`` leaves them for a pattern to read."""
        out: list[Piece] = []
        while char := self._peek():
            if char == stop:
                self._at += 1
                return tuple(out)
            if char == "$":
                out.append(self._dollar())
            elif char == "'" and not self._raw:
                out.append(self._single(keep_escapes))
            elif char == '"' and not self._raw:
                out += self._double(keep_escapes)
            else:
                plain = self._plain()
                escaped = plain == self._escape
                out.append(self._escaped(keep_escapes, stop) if escaped else Literal(plain))
        if stop:
            raise self._fail(f"a ${{ is not closed: {stop!r} is missing")
        return tuple(out)

    def _escaped(self, keep: bool, stop: str) -> Literal:
        """What stands behind an escape; at the very end it is nothing."""
        char = self._peek()
        if not char:
            return Literal(self._escape if self._raw else "")
        self._at += 1
        if self._raw and not stop:
            if char == "\n":
                return Literal("")
            return Literal(char if char in ("$", self._escape) else self._escape + char, quoted=True)
        # A brace or slash is escaped from the ${} around it, not for the pattern.
        return Literal("\\" + char if keep and char not in "}/" else char, quoted=True)

    def _single(self, keep: bool) -> Literal:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise self._fail("a single quote is not closed")
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        return Literal(_literally(text) if keep else text, quoted=True)

    def _double(self, keep: bool) -> list[Piece]:
        self._at += 1
        out: list[Piece] = [Literal("", quoted=True)]
        while char := self._peek():
            if char == '"':
                self._at += 1
                return out
            if char == "$":
                out.append(replace(self._dollar(), quoted=True))
                continue
            plain = self._plain()
            if plain == self._escape and self._peek() and self._peek() in f'"${self._escape}':
                plain = self._peek()
                self._at += 1
            out.append(Literal(_literally(plain) if keep else plain, quoted=True))
        raise self._fail("a double quote is not closed")

    def _dollar(self) -> Piece:
        self._at += 1
        if self._peek() == "{":
            self._at += 1
            return self._braces()
        match = _NAME.match(self._text, self._at)
        if match is None:
            return Literal("$")
        self._at = match.end()
        return Variable(match[0])

    def _braces(self) -> Variable:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._fail("a ${…} begins with no name" if self._peek() else "a ${ is not closed")
        name, self._at = match[0], match.end()
        if self._peek() == "}":
            self._at += 1
            return Variable(name)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._fail(f"${{…}} are nested more than {_MAX_DEPTH} deep")
        found = self._operation(name)
        self._depth -= 1
        return found

    def _operation(self, name: str) -> Variable:
        colon = self._peek() == ":"
        self._at += colon
        match = _OPERATORS.match(self._text, self._at)
        if match is None or (colon and match[0] not in ("-", "+", "?")):
            shown = self._text[self._at - colon : self._at + 1] or "nothing"
            raise self._fail(f"unknown operator in ${{{name}…}}: {shown!r}")
        operator, self._at = match[0], match.end()
        if operator in ("/", "//"):
            pattern = self._until("/", keep_escapes=True)
            return Variable(name, operator, False, pattern, self._until("}", keep_escapes=False))
        return Variable(name, operator, colon, self._until("}", keep_escapes=operator[0] in "#%"))


def _literally(text: str) -> str:
    """``text`` so that a pattern takes every character of it as itself."""
    return re.sub(r"([*?\\])", r"\\\1", text)
