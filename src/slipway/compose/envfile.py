"""Files of environment variables: ``.env`` and ``env_file``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from slipway.compose.interpolate import interpolate

_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[^\s=:#'\"][^=\s]*)\s*(?P<sign>=)?[ \t]*")
_SINGLE = re.compile(r"'([^']*)'[ \t]*(?:#.*)?$", re.MULTILINE)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t]*(?:#.*)?$', re.MULTILINE | re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}


def parse_env(text: str, outside: Mapping[str, str]) -> dict[str, str]:
    """``NAME=VALUE`` lines, ``#`` comments, quotes, and variables of ``outside`` or of earlier lines replaced.

    Single quotes keep everything as it is; double quotes know ``\\n`` and may span lines; a name without ``=`` is
    taken from ``outside``, if it is there. Raises ``ValueError`` with the line.
    """
    found: dict[str, str] = {}
    position, text = 0, text.replace("\r\n", "\n").removeprefix("\ufeff")
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        if not text[position:end].strip() or text[position:end].lstrip().startswith("#"):
            position = end + 1
            continue
        line = text.count("\n", 0, position) + 1
        match = _LINE.match(text, position)
        if match is None or match.end("name") > end:
            raise ValueError(f"line {line} is not NAME=VALUE: {text[position:end].strip()[:60]!r}")
        name = match["name"]
        if not match["sign"]:
            if name in outside:
                found[name] = outside[name]
            position = end + 1
            continue
        try:
            found[name], position = _value(text, min(match.end(), end), end, {**found, **outside})
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from error
    return found


def _value(text: str, start: int, end: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """The value at ``start`` and where the next line begins."""
    quote = text[start : start + 1]
    if quote in ("'", '"') and quote:
        match = (_SINGLE if quote == "'" else _DOUBLE).match(text, start)
        if match is None:
            raise ValueError(f"the quote {quote} is not closed")
        if quote == "'":
            return match[1], match.end() + 1
        # Unescaped first: what a variable brings in is not read again.
        return interpolate(_ESCAPE.sub(_escaped, match[1]), variables, lenient=True), match.end() + 1
    value = re.split(r"(?:^|\s)#", text[start:end], maxsplit=1)[0].strip()
    return interpolate(value, variables, lenient=True), end + 1


def _escaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[1], match[1] if match[1] in "\\\"'" else match[0])
