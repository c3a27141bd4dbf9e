"""``.dockerignore``: Go's pattern semantics, last match wins."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from slipway.build.copy.select import translate
from slipway.errors import Invalid


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    keeps: bool


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """The rules of one file. Calling it answers ``excludes(path, is_directory)`` of a build context."""

    rules: tuple[_Rule, ...]

    @classmethod
    def parse(cls, text: str) -> IgnoreFile:
        """``#`` starts a comment in column 0 only. Raises ``Invalid`` for a malformed pattern."""
        rules = []
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
            if line.startswith("#") or not line.strip():
                continue
            word = line.strip()
            keeps = word.startswith("!")
            word = word[1:].strip() if keeps else word
            if not word:
                raise Invalid(f".dockerignore:{number}: '!' needs a pattern")
            clean = posixpath.normpath(word).lstrip("/")
            try:
                rules.append(_Rule(re.compile(_expression(clean), re.DOTALL), keeps))
            except Invalid as error:
                raise Invalid(f".dockerignore:{number}: {error.message}", hint=error.hint) from error
        return cls(tuple(rules))

    def matches(self, path: str) -> bool:
        """Whether ``path`` (relative) is excluded, by itself or through a parent directory."""
        excluded = False
        for rule in self.rules:
            # A rule that would not change the verdict need not be looked at.
            if rule.keeps == excluded and _hits(rule.pattern, path):
                excluded = not rule.keeps
        return excluded

    def __call__(self, path: str, is_directory: bool) -> bool:
        """A directory with exceptions may hold something that is kept: it is there, its other contents are not."""
        if not self.matches(path):
            return False
        return not (is_directory and any(rule.keeps for rule in self.rules))


def _hits(pattern: re.Pattern[str], path: str) -> bool:
    while path:
        if pattern.fullmatch(path):
            return True
        path = posixpath.dirname(path)
    return False


def _expression(pattern: str) -> str:
    """A whole path's expression; ``**`` stands for any number of components."""
    out: list[str] = []
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            out.append(".*" if last else "(?:.*/)?")
        else:
            pieces = part.split("**")
            out.append(".*".join(translate(piece).pattern for piece in pieces))
            out.append("" if last else "/")
    return "".join(out)
