"""``${VARIABLE}`` in Compose values (compose-spec: 12-interpolation)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_START = re.compile(r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|(?P<open>\{))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-+?]")
_DEPTH = 20


def interpolate(text: str, values: Mapping[str, str], *, lenient: bool = False) -> str:
    """Every form: ``$$``, ``$V``, ``${V}``, ``${V:-d}``, ``-``, ``:?``, ``?``, ``:+``, ``+``, nested.

    ``lenient``: a ``$`` that begins nothing stays, as in files of environment variables. Raises ``ValueError`` with
    what is wrong.
    """
    return _Text(text, values, 0, lenient).whole()


class _Text:
    def __init__(self, text: str, values: Mapping[str, str], depth: int, lenient: bool) -> None:
        if depth > _DEPTH:
            raise ValueError("variables are nested too deeply")
        self._text, self._values, self._depth, self._lenient = text, values, depth, lenient

    def whole(self) -> str:
        out, position = [], 0
        while match := _START.search(self._text, position):
            out.append(self._literal(self._text[position : match.start()]))
            if match["escaped"]:
                out.append("$")
                position = match.end()
            elif match["plain"]:
                out.append(self._values.get(match["plain"], ""))
                position = match.end()
            else:
                value, position = self._braces(match.end())
                out.append(value)
        return "".join(out) + self._literal(self._text[position:])

    def _literal(self, text: str) -> str:
        if "$" in text and not self._lenient:
            raise ValueError("a '$' stands alone; write '$$' for the character itself")
        return text

    def _braces(self, start: int) -> tuple[str, int]:
        name = _NAME.match(self._text, start)
        if name is None:
            raise ValueError("${…} has no variable name; write '$$' for a literal '$'")
        end = self._closing(name.end())
        body = self._text[name.end() : end]
        value = self._values.get(name[0])
        operator = _OPERATOR.match(body)
        if not body:
            return value or "", end + 1
        if operator is None:
            raise ValueError(f"unknown operator in ${{{name[0]}{body}}}")
        missing = not value if operator[0].startswith(":") else value is None
        word = body[operator.end() :]
        if operator[0][-1] == "-":
            return (self._nested(word) if missing else value or ""), end + 1
        if operator[0][-1] == "+":
            return ("" if missing else self._nested(word)), end + 1
        if missing:
            raise ValueError(f"the variable {name[0]} is required: {self._nested(word) or 'it is not set'}")
        return value or "", end + 1

    def _closing(self, start: int) -> int:
        """Where the brace that is open at ``start`` ends; ``$$`` inside opens nothing."""
        depth, index = 0, start
        while index < len(self._text):
            two = self._text[index : index + 2]
            if two == "$$":
                index += 2
                continue
            if two == "${":
                depth += 1
                index += 2
                continue
            if two[0] == "}":
                if not depth:
                    return index
                depth -= 1
            index += 1
        raise ValueError("a ${ is not closed")

    def _nested(self, text: str) -> str:
        return _Text(text, self._values, self._depth + 1, self._lenient).whole()
