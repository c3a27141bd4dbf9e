"""Which entries of a tree the source words of COPY mean (Go's filepath.Match for wildcards)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slipway.build.tree import Tree
from slipway.errors import Invalid, NotFound
from slipway.layers import Entry

_WILDCARD = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True)
class Selected:
    """One source: its entry in the tree (symlinks at the end already followed) and the name it was asked by."""

    entry: Entry
    name: str


def select(tree: Tree, sources: Sequence[str]) -> tuple[Selected, ...]:
    """The sources in order; matches of a wildcard sorted.

    A source named without a wildcard must exist, else ``NotFound``; a wildcard may match nothing, but not all of
    them together.
    """
    found: list[Selected] = []
    for source in sources:
        # ".." above the root is the root, as in a chroot: a context has no outside.
        path = posixpath.normpath("/" + source).strip("/")
        if _WILDCARD.search(path):
            found += _matches(tree, path)
        else:
            found.append(_literal(tree, path, source))
    if not found:
        raise NotFound(f"nothing matches {' '.join(sources)}", hint="check the pattern and .dockerignore")
    return tuple(found)


def _literal(tree: Tree, path: str, source: str) -> Selected:
    real = tree.resolve(path)
    entry = tree.lstat(real) if real is not None else None
    if entry is None:
        raise NotFound(
            f"{source!r} is not in the source of the copy",
            hint="paths are relative to the build context; .dockerignore may exclude it",
        )
    return Selected(entry, posixpath.basename(path))


def _matches(tree: Tree, pattern: str) -> Iterator[Selected]:
    for path in sorted(_expand(tree, "", pattern.split("/"))):
        entry = tree.lstat(path)
        if entry is not None and entry.kind == "symlink":
            real = tree.resolve(path)
            entry = tree.lstat(real) if real is not None else None
        if entry is not None:
            yield Selected(entry, posixpath.basename(path))


def _expand(tree: Tree, base: str, parts: list[str]) -> Iterator[str]:
    real = tree.resolve(base)
    entry = tree.lstat(real) if real is not None else None
    if real is None or entry is None or entry.kind != "dir":
        return
    pattern = translate(parts[0])
    for item in tree.iterdir(real):
        name = posixpath.basename(item.path)
        if pattern.fullmatch(name):
            path = f"{base}/{name}" if base else name
            if len(parts) == 1:
                yield path
            else:
                yield from _expand(tree, path, parts[1:])


def translate(pattern: str) -> re.Pattern[str]:
    """Go's ``filepath.Match`` for one path component. Raises ``Invalid`` for a malformed pattern."""
    out, index = [], 0
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\" and index < len(pattern):
            out.append(re.escape(pattern[index]))
            index += 1
        elif char == "[":
            end = _class_end(pattern, index)
            out.append(_class(pattern[index:end]))
            index = end + 1
        else:
            out.append(re.escape(char))
    try:
        return re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise Invalid(f"not a pattern: {pattern!r}: {error}") from error


def _class_end(pattern: str, start: int) -> int:
    index = start + 1 if pattern[start : start + 1] == "^" else start
    first = index
    while index < len(pattern):
        if pattern[index] == "\\":
            index += 1
        elif pattern[index] == "]" and index > first:
            return index
        index += 1
    raise Invalid(
        f"not a pattern: {pattern!r}", hint="a '[' needs its ']'; write [[] for the character itself"
    )


def _class(body: str) -> str:
    negated, rest = body.startswith("^"), body.removeprefix("^")
    rest = re.sub(r"\\(.)", r"\1", rest)
    escaped = re.sub(r"([\\\]\[^&~|])", r"\\\1", rest)
    return f"[{'^' if negated else ''}{escaped}]"
