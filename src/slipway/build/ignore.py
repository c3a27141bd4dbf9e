"""``.dockerignore``: which paths of a build context are not there.

Patterns are those of Go's ``filepath.Match`` for each part of a path, and ``**`` for any number of parts. The last
rule that matches decides; ``!`` brings something back; what matches a directory matches everything below it.

A context is anybody's: each pattern becomes an expression that never goes back over text it has consumed, so that no
pattern can keep the matcher busy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from slipway.errors import Invalid

_META = re.compile(r"[*?\[\\]")
_MAX_OPEN = 4
_MAX_PATTERN = 4096


@dataclass(frozen=True, slots=True)
class _Rule:
    """One line. ``parts`` are the alternatives as expressions of path parts, ``None`` standing for ``**``."""

    keeps: bool
    expression: re.Pattern[str]
    parts: tuple[tuple[re.Pattern[str] | None, ...], ...]

    def hits(self, path: str) -> bool:
        """Whether it matches ``path`` or a directory above it."""
        return self.expression.match(path) is not None

    def reaches_below(self, directory: str) -> bool:
        """Whether it could match something inside ``directory``."""
        return any(_reaches(parts, directory.split("/")) for parts in self.parts)


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """The rules of one file. Calling it answers ``excludes(path, is_directory)`` of a build context."""

    rules: tuple[_Rule, ...]

    @classmethod
    def parse(cls, text: str, name: str = ".dockerignore") -> IgnoreFile:
        """``#`` starts a comment in column 0 only. Raises ``Invalid`` with the line of a malformed pattern."""
        rules = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            if line.startswith("#") or not line.strip():
                continue
            word = line.strip()
            keeps = word.startswith("!")
            pattern = word[1:].strip() if keeps else word
            try:
                if not pattern:
                    raise Invalid("'!' needs a pattern")
                rules.append(_rule(_clean(pattern), keeps))
            except Invalid as error:
                raise Invalid(
                    f"{name}:{number}: {error.message}\n  {word[:200]}",
                    hint=error.hint,
                    file=name,
                    line=number,
                ) from error
        return cls(tuple(rules))

    def matches(self, path: str) -> bool:
        """Whether ``path`` (relative) is excluded, by itself or through a parent directory."""
        excluded = False
        for rule in self.rules:
            # A rule that would not change the verdict need not be looked at.
            if rule.keeps == excluded and rule.hits(path):
                excluded = not rule.keeps
        return excluded

    def keeps_below(self, directory: str) -> bool:
        """Whether an exception may bring back something inside an excluded directory: else nobody need look."""
        return any(rule.keeps and rule.reaches_below(directory) for rule in self.rules)

    def __call__(self, path: str, is_directory: bool) -> bool:
        """An excluded directory that may hold an exception is there; its other contents are not."""
        return self.matches(path) and not (is_directory and self.keeps_below(path))


def _clean(pattern: str) -> str:
    """``pattern`` without ``.``, ``..`` and doubled or leading slashes, as far as it can be."""
    rooted = pattern.startswith("/")
    done: list[str] = []
    for part in pattern.split("/"):
        if part in ("", "."):
            continue
        if part != ".." or (not rooted and (not done or done[-1] == "..")):
            done.append(part)
        else:
            done = done[:-1]
    return "/".join(done)


def _rule(pattern: str, keeps: bool) -> _Rule:
    if len(pattern) > _MAX_PATTERN:
        raise Invalid(f"the pattern is longer than {_MAX_PATTERN} characters")
    alternatives = [item.split("/") if item else [] for item in _alternatives(pattern)]
    parts = tuple(tuple(None if part == "**" else _part(part) for part in item) for item in alternatives)
    texts = "|".join(_whole(item) for item in parts if item)
    return _Rule(keeps, re.compile(f"(?:{texts})" if texts else r"(?!)", re.DOTALL), parts)


def _alternatives(pattern: str) -> Iterator[str]:
    """``pattern`` in such forms that every ``**`` is a part of its own.

    ``a**b`` means ``ab`` and ``a…/b``; ``**`` swallows a slash behind it, so ``a**/b`` means the same.
    """
    head, *rest = re.split(r"\*\*/?", pattern)
    if (
        not head
        and len(rest) == 1
        and rest[0]
        and not pattern.startswith("**/")
        and not _META.search(rest[0])
    ):
        # A leading ** with nothing but text behind it: the path ends with that text.
        yield f"**/*{rest[0]}"
        return
    glued = [
        index for index in range(len(rest)) if (head, *rest)[index] and not (head, *rest)[index].endswith("/")
    ]
    if len(glued) > _MAX_OPEN:
        raise Invalid(
            f"'**' stands inside a name more than {_MAX_OPEN} times", hint="write **/ between names"
        )
    for choice in product((False, True), repeat=len(glued)):
        split = dict(zip(glued, choice, strict=True))
        text = head
        for index, piece in enumerate(rest):
            last = index == len(rest) - 1 and not piece
            if index not in split:
                text += "**" if last else "**/"
            elif last:
                text += "*"
            elif split[index]:
                text += "*/**/"
            text += piece
        yield re.sub(r"(?:\*\*/)+", "**/", text)


def _whole(parts: tuple[re.Pattern[str] | None, ...]) -> str:
    """The expression of a path that matches ``parts`` or lies below one that does.

    Between two ``**`` the parts are of a fixed number, so the first place where they fit is as good as any.
    """
    groups: list[list[str]] = [[]]
    for part in parts:
        if part is None:
            groups.append([])
        else:
            groups[-1].append(part.pattern)
    out = ""
    for index, group in enumerate(groups):
        last = index == len(groups) - 1
        if group:
            text = "/".join(group) + ("(?:/|\\Z)" if last else "/")
            out += text if index == 0 else f"(?>(?:[^/]*/)*?{text})"
        elif last:
            out += "(?=.)"
    return out


def _reaches(parts: tuple[re.Pattern[str] | None, ...], names: list[str]) -> bool:
    for name, part in zip(names, parts, strict=False):
        if part is None:
            return True
        if not part.fullmatch(name):
            return False
    return bool(parts)


def _part(pattern: str) -> re.Pattern[str]:
    """One part of a path: chunks of fixed length between stars, each taken where it comes first."""
    chunks = [""]
    index = 0
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "*":
            chunks.append("")
        elif char == "?":
            chunks[-1] += "[^/]"
        elif char == "[":
            expression, index = _class(pattern, index)
            chunks[-1] += expression
        elif char == "\\":
            if index == len(pattern):
                raise Invalid(f"not a pattern: {pattern[:100]!r}", hint="a '\\' needs a character behind it")
            chunks[-1] += re.escape(pattern[index])
            index += 1
        else:
            chunks[-1] += re.escape(char)
    first, *rest = chunks
    middle = "".join(f"(?>[^/]*?{chunk})" for chunk in rest[:-1] if chunk)
    return re.compile(first + middle + (f"[^/]*{rest[-1]}(?=/|\\Z)" if rest else ""), re.DOTALL)


def _class(pattern: str, index: int) -> tuple[str, int]:
    """A bracket expression whose inside begins at ``index``, and the index behind it."""
    negated = pattern[index : index + 1] == "^"
    index += negated
    items = ""
    count = 0
    while pattern[index : index + 1] != "]" or not count:
        low, index = _class_character(pattern, index)
        high = low
        if pattern[index : index + 1] == "-":
            high, index = _class_character(pattern, index + 1)
        count += 1
        if low <= high:
            items += f"\\U{ord(low):08x}-\\U{ord(high):08x}"
    if not items:
        return ("[^/]" if negated else "(?!)"), index + 1
    return (f"(?!/)[{'^' if negated else ''}{items}]"), index + 1


def _class_character(pattern: str, index: int) -> tuple[str, int]:
    bad = pattern[index : index + 1] in ("", "-", "]")
    if pattern[index : index + 1] == "\\":
        index += 1
        bad = index >= len(pattern)
    if bad:
        raise Invalid(
            f"not a pattern: {pattern[:100]!r}",
            hint="a '[' needs its ']'; write \\[ for the character itself",
        )
    return pattern[index], index + 1
