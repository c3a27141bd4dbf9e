"""Splitting an instruction's text at white space, quotes and escapes kept as they are for the expansion later."""

from __future__ import annotations

import re
from collections.abc import Iterator

BLANK = re.compile(r"[\t\v\f\r ]+")


def split_words(text: str, escape: str) -> list[str]:
    """Words at unquoted, unescaped white space, quotes kept. A quote that is not closed runs to the end."""
    words: list[str] = []
    word, inside, quote = "", False, ""
    for piece in _pieces(text, escape):
        if not quote and piece.isspace():
            if inside:
                words.append(word)
            word, inside = "", False
            continue
        inside = True
        word += piece
        if quote:
            quote = "" if piece == quote else quote
        elif piece in ("'", '"'):
            quote = piece
    return [*words, word] if inside else words


def _pieces(text: str, escape: str) -> Iterator[str]:
    """Single characters, an escape together with what it escapes; inside single quotes nothing is escaped."""
    index, single, double = 0, False, False
    while index < len(text):
        char = text[index]
        if char == escape and not single:
            if index + 1 < len(text):
                yield text[index : index + 2]
            index += 2
            continue
        single ^= char == "'" and not double
        double ^= char == '"' and not single
        yield char
        index += 1


def unquoted(word: str) -> tuple[str, bool]:
    """``word`` without its quotes and escapes, and whether it had any quotes."""
    out, index, quote, quoted = "", 0, "", False
    while index < len(word):
        char = word[index]
        if char == "\\" and quote != "'" and index + 1 < len(word):
            out += word[index + 1]
            index += 2
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, quoted = char, True
        else:
            out += char
        index += 1
    return out, quoted


def balanced(text: str, escape: str) -> bool:
    """Whether every quote in ``text`` is closed."""
    quote = ""
    for piece in _pieces(text, escape):
        if quote:
            quote = "" if piece == quote else quote
        elif piece in ("'", '"'):
            quote = piece
    return not quote
