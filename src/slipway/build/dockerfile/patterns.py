"""Shell patterns (``*``, ``?``, escapes) for ``${name#pattern}`` and its kin.

A Dockerfile is anybody's text: a backtracking matcher could be kept busy for ever by one line of it. Between its stars
a pattern has chunks of fixed length, and taking each chunk where it comes first (the last one, for the longest match,
where it comes last) is always right. So nothing is ever tried twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PATTERN = 1024


@dataclass(frozen=True, slots=True)
class Pattern:
    """The chunks between the stars; each a list of characters, ``None`` for any one."""

    chunks: tuple[tuple[str | None, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """A backslash takes the meaning from the character behind it. Raises ``ValueError`` if it is too long."""
        if len(text) > MAX_PATTERN:
            raise ValueError(f"the pattern is longer than {MAX_PATTERN} characters")
        chunks: list[list[str | None]] = [[]]
        index = 0
        while index < len(text):
            char = text[index]
            if char == "\\" and index + 1 < len(text):
                index += 1
                chunks[-1].append(text[index])
            elif char == "*":
                chunks.append([])
            else:
                chunks[-1].append(None if char == "?" else char)
            index += 1
        return cls(tuple(tuple(chunk) for chunk in chunks))

    def reversed(self) -> Pattern:
        return Pattern(tuple(chunk[::-1] for chunk in reversed(self.chunks)))

    def end(self, text: str, start: int, *, longest: bool) -> int | None:
        """Where a match that begins at ``start`` ends; ``None`` if there is none."""
        first, *rest = self.chunks
        match = _compiled(first).match(text, start)
        if match is None:
            return None
        end = match.end()
        for number, chunk in enumerate(rest, 1):
            last = number == len(rest)
            found = _last(chunk, text, end) if longest and last else _first(chunk, text, end)
            if found is None:
                return None
            end = found
        return end

    def find(self, text: str, start: int) -> tuple[int, int] | None:
        """The first match at or behind ``start`` that is not empty, as long as it can be."""
        while match := _compiled(self.chunks[0]).search(text, start):
            end = self.end(text, match.start(), longest=True)
            if end is None or end > match.start():
                # A later beginning leaves less text for the chunks behind it: one failure is all.
                return None if end is None else (match.start(), end)
            start = match.start() + 1
            if start > len(text):
                return None
        return None


def _compiled(chunk: tuple[str | None, ...]) -> re.Pattern[str]:
    return re.compile("".join("." if char is None else re.escape(char) for char in chunk), re.DOTALL)


def _first(chunk: tuple[str | None, ...], text: str, start: int) -> int | None:
    match = _compiled(chunk).search(text, start)
    return match.end() if match else None


def _last(chunk: tuple[str | None, ...], text: str, start: int) -> int | None:
    match = _compiled(chunk[::-1]).search(text[start:][::-1])
    return len(text) - match.start() if match else None


def trim(value: str, pattern: str, *, suffix: bool, longest: bool) -> str:
    """``value`` without the shortest or longest prefix (or suffix) that matches."""
    compiled = Pattern.parse(pattern)
    if not suffix:
        return value[compiled.end(value, 0, longest=longest) or 0 :]
    length = compiled.reversed().end(value[::-1], 0, longest=longest) or 0
    return value[: len(value) - length]


def replace(value: str, pattern: str, replacement: str, *, every: bool, limit: int) -> str:
    """``value`` with the first longest match, or every one, replaced. An empty match is none.

    Raises ``ValueError`` when the result would be longer than ``limit``.
    """
    compiled = Pattern.parse(pattern)
    out: list[str] = []
    position = size = 0
    while found := compiled.find(value, position):
        out += (value[position : found[0]], replacement)
        size += len(replacement)
        if size > limit:
            raise ValueError(f"the result is longer than {limit} characters")
        position = found[1]
        if not every:
            break
    return "".join(out) + value[position:]
