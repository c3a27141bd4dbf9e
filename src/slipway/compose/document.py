"""A YAML document whose every value knows its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import yaml

from slipway.compose.errors import ComposeError
from slipway.compose.interpolate import interpolate

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 60


class Source:
    """One file's text, for messages."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = text.split("\n")

    def error(self, message: str, mark: yaml.Mark | None, hint: str = "") -> ComposeError:
        line, column = (mark.line, mark.column) if mark else (0, 0)
        text = self.lines[line] if line < len(self.lines) else ""
        return ComposeError(message, file=self.file, line=line + 1, column=column + 1, text=text, hint=hint)


class Value:
    """A node: its plain value by ``raw``, its parts by ``items`` and ``each``; errors at its place."""

    def __init__(self, source: Source, node: yaml.Node, variables: Mapping[str, str], path: str) -> None:
        self._source, self._node, self._variables, self.path = source, node, variables, path

    def fail(self, message: str, hint: str = "") -> ComposeError:
        return self._source.error(message, self._node.start_mark, hint)

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
        found: dict[str, Value] = {}
        for key, node in _merged(self._node, 0):
            if not isinstance(key, yaml.ScalarNode):
                raise self._source.error("a key must be a text", key.start_mark)
            if key.value in found:
                raise self._source.error(f"the key {key.value!r} is given twice", key.start_mark)
            found[key.value] = Value(
                self._source, node, self._variables, f"{self.path}.{key.value}".lstrip(".")
            )
        return list(found.items())

    def fields(
        self, known: Mapping[str, Any] | set[str], later: frozenset[str] = frozenset()
    ) -> dict[str, Value]:
        """``items`` with only ``known`` keys allowed, and ``x-`` ones."""
        found = dict(self.items())
        for key, value in found.items():
            if key in known or key.startswith("x-"):
                continue
            if key in later:
                raise value.fail(f"{value.path} is not supported yet", "remove it")
            close = get_close_matches(key, [*known, *later], 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
            raise value.fail(f"unknown key {key!r}", hint)
        return found

    def each(self) -> list[Value]:
        """A list's values; a single text counts as a list of one."""
        if self.is_null:
            return []
        if isinstance(self._node, yaml.ScalarNode):
            return [self]
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.fail(f"{self.path} must be a list")
        return [
            Value(self._source, node, self._variables, f"{self.path}[{index}]")
            for index, node in enumerate(self._node.value)
        ]

    def text(self) -> str:
        """A scalar as text, variables replaced."""
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.fail(f"{self.path} must be a single value")
        try:
            return interpolate(self._node.value, self._variables)
        except ValueError as error:
            raise self.fail(f"{self.path}: {error}") from error

    def integer(self) -> int:
        text = self.text()
        if not text.lstrip("-").isdigit() or len(text) > 18:
            raise self.fail(f"{self.path} must be a whole number, not {text[:40]!r}")
        return int(text)

    def boolean(self) -> bool:
        text = self.text().lower()
        if text not in ("true", "false", "yes", "no", "on", "off"):
            raise self.fail(f"{self.path} must be true or false, not {text[:40]!r}")
        return text in ("true", "yes", "on")

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
        if tag == "bool":
            return text.lower() in ("true", "yes", "on")
        if tag == "int" and text.lstrip("-").isdigit():
            return int(text)
        return text


def parse(text: str, file: str, variables: Mapping[str, str]) -> Value:
    """The document's root. Raises ``ComposeError`` for what is no YAML, and for documents made to exhaust."""
    source = Source(file, text)
    if len(text) > MAX_BYTES:
        raise ComposeError(f"the file has more than {MAX_BYTES} bytes", file=file, line=1, column=1)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise source.error(f"not YAML: {error.problem}", error.problem_mark or error.context_mark) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise source.error(f"not YAML: {str(error)[:200]}", None) from error
    if node is None:
        raise source.error("the file is empty", None, "it needs at least `services:`")
    _check_size(source, node)
    return Value(source, node, variables, "")


def _check_size(source: Source, root: yaml.Node) -> None:
    """Aliases are followed as often as they stand, so a small file cannot stand for a huge one."""
    count = 0
    pending: list[tuple[yaml.Node, int]] = [(root, 0)]
    while pending:
        node, depth = pending.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise source.error(
                f"the file has more than {MAX_NODES} values or is deeper than {MAX_DEPTH}", None
            )
        if isinstance(node, yaml.SequenceNode):
            pending += [(item, depth + 1) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            pending += [(item, depth + 1) for pair in node.value for item in pair]


def _merged(node: yaml.MappingNode, depth: int) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """The pairs with ``<<`` merge keys resolved: the mapping's own keys win."""
    own = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"}
    merged: set[str] = set()
    for key, value in node.value:
        if not (isinstance(key, yaml.ScalarNode) and key.tag.endswith(":merge")):
            yield key, value
            continue
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for item in sources:
            if isinstance(item, yaml.MappingNode) and depth < MAX_DEPTH:
                for name, inner in _merged(item, depth + 1):
                    if isinstance(name, yaml.ScalarNode) and name.value not in own | merged:
                        merged.add(name.value)
                        yield name, inner
