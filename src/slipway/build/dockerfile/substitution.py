"""``$variable`` in Dockerfile words: every form, quotes and escapes as Docker's shell lexer has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#]")
Fail = Callable[[str], Exception]


class _Expander:
    """One pass over one text. ``split`` keeps track of unquoted white space, for instructions of several words."""

    def __init__(self, text: str, values: Mapping[str, str], escape: str, fail: Fail, raw: bool) -> None:
        self._text, self._values, self._escape, self._fail = text, values, escape, fail
        self._raw = raw
        self._at = 0
        self.used: set[str] = set()

    def words(self) -> Iterator[str]:
        word: list[str] = []
        inside = False
        while self._at < len(self._text):
            char = self._text[self._at]
            if char.isspace():
                if inside:
                    yield "".join(word)
                word, inside = [], False
                self._at += 1
            else:
                inside = True
                word.append(self._piece(char))
        if inside:
            yield "".join(word)

    def whole(self) -> str:
        out: list[str] = []
        while self._at < len(self._text):
            out.append(self._piece(self._text[self._at]))
        return "".join(out)

    def _piece(self, char: str) -> str:
        if char == "'" and not self._raw:
            return self._single()
        if char == '"' and not self._raw:
            return self._double()
        if char == "$":
            return self._dollar()
        self._at += 1
        if char == self._escape and self._at < len(self._text):
            following = self._text[self._at]
            self._at += 1
            return following if not self._raw or following in "$" + self._escape else char + following
        return char

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise self._fail("a single quote is not closed")
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        return text

    def _double(self) -> str:
        self._at += 1
        out: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return "".join(out)
            if char == "$":
                out.append(self._dollar())
                continue
            self._at += 1
            if (
                char == self._escape
                and self._at < len(self._text)
                and self._text[self._at] in f'"${self._escape}'
            ):
                char = self._text[self._at]
                self._at += 1
            out.append(char)
        raise self._fail("a double quote is not closed")

    def _dollar(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._braces()
        match = _NAME.match(self._text, self._at)
        if match is None:
            return "$"
        self._at = match.end()
        return self._value(match[0]) or ""

    def _value(self, name: str) -> str | None:
        self.used.add(name)
        return self._values.get(name)

    def _braces(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._fail("a variable in ${…} has no name")
        name, self._at = match[0], match.end()
        rest = self._operand()
        value = self._value(name)
        if not rest:
            return value or ""
        colon = rest.startswith(":")
        operator, operand = rest[int(colon) : int(colon) + 1], rest[int(colon) + 1 :]
        missing = not value if colon else value is None
        if operator == "-":
            return self._nested(operand) if missing else value or ""
        if operator == "+":
            return "" if missing else self._nested(operand)
        if operator == "?":
            if missing:
                raise self._fail(f"{name}: {self._nested(operand) or 'is not set'}")
            return value or ""
        if colon:
            raise self._fail(f"unknown operator in ${{{name}{rest}}}")
        if operator in "#%":
            return _trim(value or "", operator, operand, self._nested)
        if operator == "/":
            return _replace(value or "", operand, self._nested)
        raise self._fail(f"unknown operator in ${{{name}{rest}}}")

    def _operand(self) -> str:
        """The text up to the closing brace, inner ones counted."""
        depth, start = 1, self._at
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == self._escape:
                self._at += 1
            elif char == "{" and self._text[self._at - 1] == "$":
                depth += 1
            elif char == "}":
                depth -= 1
                if not depth:
                    self._at += 1
                    return self._text[start : self._at - 1]
            self._at += 1
        raise self._fail("a ${ is not closed")

    def _nested(self, text: str) -> str:
        inner = _Expander(text, self._values, self._escape, self._fail, self._raw)
        result = inner.whole()
        self.used |= inner.used
        return result


def _glob(pattern: str, greedy: bool) -> str:
    star = ".*" if greedy else ".*?"
    out, index = [], 0
    while index < len(pattern):
        char = pattern[index]
        if char == "\\" and index + 1 < len(pattern):
            index += 1
            out.append(re.escape(pattern[index]))
        else:
            out.append(star if char == "*" else "." if char == "?" else re.escape(char))
        index += 1
    return "".join(out)


def _trim(value: str, operator: str, operand: str, nested: Callable[[str], str]) -> str:
    greedy = operand.startswith(operator)
    pattern = nested(operand[1:] if greedy else operand)
    if operator == "#":
        match = re.match(_glob(pattern, greedy), value, re.DOTALL)
        return value[match.end() :] if match else value
    # A suffix: the shortest starts as late as possible, the longest as early.
    expression = re.compile(_glob(pattern, greedy=True), re.DOTALL)
    starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
    for start in starts:
        if expression.fullmatch(value, start):
            return value[:start]
    return value


def _replace(value: str, operand: str, nested: Callable[[str], str]) -> str:
    every = operand.startswith("/")
    pattern, _, replacement = (operand[1:] if every else operand).partition("/")
    text = nested(replacement)
    return re.sub(
        _glob(nested(pattern), greedy=True),
        lambda _match: text,
        value,
        count=0 if every else 1,
        flags=re.DOTALL,
    )


def expand(text: str, values: Mapping[str, str], fail: Fail, *, escape: str = "\\", raw: bool = False) -> str:
    """``text`` as one word. ``raw`` leaves quotes alone, for heredocs. Errors are what ``fail(message)`` returns."""
    return _Expander(text, values, escape, fail, raw).whole()


def expand_words(text: str, values: Mapping[str, str], fail: Fail, *, escape: str = "\\") -> list[str]:
    """``text`` split at unquoted white space, each word expanded."""
    return list(_Expander(text, values, escape, fail, False).words())
