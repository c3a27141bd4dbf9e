"""Values of a Compose file as typed ones: texts, commands, mappings."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import TypeVar

from slipway.compose.document import Value

T = TypeVar("T")


def parsed(value: Value, parse: Callable[[str], T]) -> T:
    """A text through one of the ``units``, its error at the value's place."""
    try:
        return parse(value.text())
    except ValueError as error:
        raise value.fail(f"{value.path}: {error}") from error


def texts(value: Value) -> tuple[str, ...]:
    return tuple(item.text() for item in value.each())


def mapping(value: Value) -> dict[str, str]:
    """``{A: b}`` or ``[A=b]``; a key without a value is empty."""
    return {key: text or "" for key, text in _entries(value).items()}


def environment(value: Value, outside: Mapping[str, str]) -> dict[str, str]:
    """Like ``mapping``, but a name without a value is taken from ``outside``, and left out if it is not there."""
    found = {}
    for key, text in _entries(value).items():
        if not key or "=" in key:
            raise value.fail(f"not a variable's name: {key[:60]!r}")
        if text is not None:
            found[key] = text
        elif key in outside:
            found[key] = outside[key]
    return found


def _entries(value: Value) -> dict[str, str | None]:
    if value.is_mapping or value.is_null:
        return {key: None if item.is_null else item.text() for key, item in value.items()}
    found: dict[str, str | None] = {}
    for item in value.each():
        key, sign, text = item.text().partition("=")
        found[key] = text if sign else None
    return found


def words(value: Value) -> tuple[str, ...] | None:
    """A command: a list, or a text split as a shell splits words. ``null`` keeps the image's."""
    if value.is_null:
        return None
    if value.is_list:
        return texts(value)
    try:
        return tuple(shlex.split(value.text()))
    except ValueError as error:
        raise value.fail(f"{value.path}: {error}") from error


def path(value: Value) -> str:
    """An absolute path inside a container, not its root."""
    text = value.text()
    if not text.startswith("/") or not text.strip("/") or ".." in text.split("/"):
        raise value.fail(f"{value.path} must be an absolute path below '/', not {text[:100]!r}")
    return text
