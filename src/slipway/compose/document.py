"""A YAML document whose every value knows its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import yaml

from slipway.compose.errors import ComposeError
from slipway.compose.interpolate import interpolate

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 60
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_TAGS = ("!reset", "!override")
_NO_HINTS: Mapping[str, str] = MappingProxyType({})


class Sources:
    """The texts of the files read, for messages: a node's mark names its file."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, file: str, text: str) -> None:
        self._lines[file] = text.split("\n")

    def error(self, message: str, mark: yaml.Mark | None, hint: str = "", file: str = "") -> ComposeError:
        name = mark.name if mark else file
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = self._lines.get(name, [])
        text = lines[line] if line < len(lines) else ""
        return ComposeError(message, file=name, line=line + 1, column=column + 1, text=text, hint=hint)


class Value:
    """A node: a scalar by ``text`` and its like, its parts by ``items`` and ``each``; errors at its place.

    ``key`` is the node of the key it stands under, where messages about the key itself point to.
    """

    def __init__(
        self,
        sources: Sources,
        node: yaml.Node,
        variables: Mapping[str, str],
        path: str,
        key: yaml.Node | None = None,
    ) -> None:
        self._sources, self._node, self._variables, self.path, self._key = sources, node, variables, path, key

    def fail(self, message: str, hint: str = "") -> ComposeError:
        return self._sources.error(message, self._node.start_mark, hint)

    def fail_at_key(self, message: str, hint: str = "") -> ComposeError:
        return self._sources.error(message, (self._key or self._node).start_mark, hint)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self._node, yaml.SequenceNode)

    @property
    def is_null(self) -> bool:
        return isinstance(self._node, yaml.ScalarNode) and self._node.tag.endswith(":null")

    def items(self) -> list[tuple[str, Value]]:
        """A mapping's entries. Raises for anything else and for a key given twice."""
        if self.is_null:
            return []
        if not isinstance(self._node, yaml.MappingNode):
            raise self.fail(f"{self.path or 'the file'} must be a mapping")
        return [
            (key.value, self._below(node, f"{self.path}.{key.value}".lstrip("."), key))
            for key, node in pairs(self._sources, self._node)
        ]

    def _below(self, node: yaml.Node, path: str, key: yaml.Node | None = None) -> Value:
        return Value(self._sources, node, self._variables, path, key)

    def fields(
        self, known: Collection[str], later: Collection[str] = (), hints: Mapping[str, str] = _NO_HINTS
    ) -> dict[str, Value]:
        """``items`` with only ``known`` keys allowed, and ``x-`` ones. ``later``: what we cannot honour yet.

        ``hints``: what to do instead, where there is more to say than to leave the key out.
        """
        found = dict(self.items())
        for key, value in found.items():
            if key in known or key.startswith("x-"):
                continue
            if key in later:
                raise value.fail_at_key(f"{value.path} is not supported yet", hints.get(key, "remove it"))
            close = get_close_matches(key, [*known, *later], 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
            raise value.fail_at_key(f"unknown key {key[:60]!r}", hint)
        return found

    def each(self) -> list[Value]:
        """A list's values; a single text counts as a list of one."""
        if self.is_null:
            return []
        if isinstance(self._node, yaml.ScalarNode):
            return [self]
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.fail(f"{self.path} must be a list")
        return [self._below(node, f"{self.path}[{index}]") for index, node in enumerate(self._node.value)]

    def text(self) -> str:
        """A scalar as text, variables replaced."""
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.fail(f"{self.path} must be a single value")
        try:
            found = interpolate(self._node.value, self._variables)
        except ValueError as error:
            raise self.fail(f"{self.path}: {error}") from error
        if "\0" in found:
            raise self.fail(f"{self.path} holds a NUL character")
        return found

    def integer(self) -> int:
        text = self.text()
        if not _INTEGER.fullmatch(text):
            raise self.fail(f"{self.path} must be a whole number, not {text[:40]!r}")
        return int(text)

    def boolean(self) -> bool:
        text = self.text().lower()
        if text not in _TRUE + _FALSE:
            raise self.fail(f"{self.path} must be true or false, not {text[:40]!r}")
        return text in _TRUE

    def choice(self, *words: str) -> str:
        text = self.text()
        if text not in words:
            raise self.fail(f"{self.path} is {text[:60]!r}", f"one of {', '.join(words)}")
        return text

    def plain(self) -> Any:
        """Everything below as Python values, texts interpolated."""
        if self.is_mapping:
            return {key: value.plain() for key, value in self.items()}
        if self.is_list:
            return [value.plain() for value in self.each()]
        if self.is_null:
            return None
        text = self.text()
        tag = self._node.tag.rpartition(":")[2]
        if tag == "bool" and text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        return int(text) if tag == "int" and _INTEGER.fullmatch(text) else text


def parse(text: str, file: str, sources: Sources) -> yaml.Node:
    """The document's root. Raises ``ComposeError`` for what is no YAML, and for documents made to exhaust."""
    sources.add(file, text)
    if len(text) > MAX_BYTES:
        raise sources.error(f"the file has more than {MAX_BYTES} characters", None, file=file)
    try:
        loader = yaml.SafeLoader(text)
        loader.name = file
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise sources.error(f"not YAML: {error.problem}", mark, file=file) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise sources.error(f"not YAML: {str(error)[:200]}", None, file=file) from error
    if node is None:
        raise sources.error("the file is empty", None, "it needs at least `services:`", file)
    _check(sources, node)
    return node


def _check(sources: Sources, root: yaml.Node) -> None:
    """Aliases are followed as often as they stand, so a small file cannot stand for a huge one."""
    count = 0
    pending: list[tuple[yaml.Node, int]] = [(root, 0)]
    while pending:
        node, depth = pending.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            what = f"the file has more than {MAX_NODES} values or is deeper than {MAX_DEPTH}"
            raise sources.error(what, node.start_mark)
        if node.tag not in _TAGS and not node.tag.startswith("tag:yaml.org,2002:"):
            raise sources.error(
                f"unknown tag {node.tag[:60]!r}", node.start_mark, "!reset and !override are known"
            )
        if isinstance(node, yaml.SequenceNode):
            pending += [(item, depth + 1) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            pending += [(item, depth + 1) for pair in node.value for item in pair]


def pairs(sources: Sources, node: yaml.MappingNode) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """A mapping's pairs with ``<<`` resolved: its own keys win. Raises for a key that is no text or given twice."""
    own: set[str] = set()
    inherited: list[yaml.Node] = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise sources.error("a key must be a text", key.start_mark)
        if key.tag.endswith(":merge"):
            inherited += value.value if isinstance(value, yaml.SequenceNode) else [value]
            continue
        if key.value in own:
            raise sources.error(f"the key {key.value[:60]!r} is given twice", key.start_mark)
        own.add(key.value)
        yield key, value
    for item in inherited:
        if not isinstance(item, yaml.MappingNode):
            raise sources.error("`<<` takes a mapping, or a list of them", item.start_mark)
        for key, value in pairs(sources, item):
            if key.value not in own:
                own.add(key.value)
                yield key, value
