"""Which entries of a tree the source words of COPY mean (Go's filepath.Match for wildcards)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from slipway.build.tree import Tree
from slipway.errors import Invalid, NotFound
from slipway.layers import Entry

_WILDCARD = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True)
class Selected:
    """One source: its entry in the tree (symlinks at the end already followed) and the name it was asked by.

    With ``--parents`` the name is a path: all of it from the pivot on. ``parents`` are the entries on the way there,
    by their paths below the destination. ``unpack`` says that it is taken apart if it is an archive.
    """

    tree: Tree
    entry: Entry
    name: str
    parents: tuple[Entry, ...] | None = None
    unpack: bool = False


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


def select_with_parents(tree: Tree, sources: Sequence[str]) -> tuple[Selected, ...]:
    """The sources of ``COPY --parents``: of a path what is behind ``/./`` (or all) is kept; ``**`` is any depth."""
    found: list[Selected] = []
    for source in sources:
        before, pivot, behind = source.partition("/./")
        base = posixpath.normpath("/" + before).strip("/") if pivot else ""
        path = posixpath.normpath("/" + (behind if pivot else source)).strip("/")
        if _WILDCARD.search(path):
            names = sorted(set(_expand(tree, base, path.split("/"))))
        else:
            _literal(tree, posixpath.join(base, path), source)
            names = [posixpath.join(base, path)]
        cut = len(base) + 1 if base else 0
        found += [item for name in names if (item := _with_parents(tree, name, cut)) is not None]
    if not found:
        raise NotFound(f"nothing matches {' '.join(sources)}", hint="check the pattern and .dockerignore")
    return tuple(found)


def _with_parents(tree: Tree, path: str, cut: int) -> Selected | None:
    real = tree.resolve(path)
    entry = tree.lstat(real) if real is not None else None
    if entry is None:
        return None
    kept = path[cut:]
    parents, parent = [], posixpath.dirname(kept)
    while parent:
        here = tree.resolve(path[:cut] + parent)
        above = tree.lstat(here) if here is not None else None
        if above is not None:
            parents.append(replace(above, path=parent))
        parent = posixpath.dirname(parent)
    return Selected(tree, entry, kept, tuple(reversed(parents)))


def _literal(tree: Tree, path: str, source: str) -> Selected:
    real = tree.resolve(path)
    entry = tree.lstat(real) if real is not None else None
    if entry is None:
        raise NotFound(
            f"{source!r} is not in the source of the copy",
            hint="paths are relative to the build context; .dockerignore may exclude it",
        )
    return Selected(tree, entry, posixpath.basename(path))


def _matches(tree: Tree, pattern: str) -> Iterator[Selected]:
    for path in sorted(_expand(tree, "", pattern.split("/"))):
        entry = tree.lstat(path)
        if entry is not None and entry.kind == "symlink":
            real = tree.resolve(path)
            entry = tree.lstat(real) if real is not None else None
        if entry is not None:
            yield Selected(tree, entry, posixpath.basename(path))


def _expand(tree: Tree, base: str, parts: list[str]) -> Iterator[str]:
    real = tree.resolve(base)
    entry = tree.lstat(real) if real is not None else None
    if real is None or entry is None or entry.kind != "dir":
        return
    if parts[0] == "**":
        yield from _expand_any_depth(tree, base, real, parts[1:])
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


def _expand_any_depth(tree: Tree, base: str, real: str, rest: list[str]) -> Iterator[str]:
    """``**``: here, and in every directory below. At the end it means everything."""
    pending = [(base, real)]
    while pending:
        base, real = pending.pop()
        if rest:
            yield from _expand(tree, base, rest)
        for item in tree.iterdir(real):
            name = posixpath.basename(item.path)
            path = f"{base}/{name}" if base else name
            if not rest:
                yield path
            elif item.kind == "dir":
                pending.append((path, item.path))


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
