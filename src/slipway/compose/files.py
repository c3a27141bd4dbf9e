"""Configs and secrets: texts that come with the app and stand as files in its containers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from slipway.compose.document import Value
from slipway.compose.fields import path
from slipway.compose.model import FileMount

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", re.ASCII)
_MODE = re.compile(r"0?[0-7]{1,4}", re.ASCII)
_LIMIT = 512 * 1024


def texts_of(
    value: Value, variables: Mapping[str, str], read_file: Callable[[str], str], *, inline: bool
) -> dict[str, str]:
    """The top-level ``configs`` or ``secrets`` by name; ``inline``: whether ``content`` may be written there."""
    return {key: _text(key, item, variables, read_file, inline) for key, item in value.items()}


def _text(
    key: str, value: Value, variables: Mapping[str, str], read_file: Callable[[str], str], inline: bool
) -> str:
    if not _NAME.fullmatch(key):
        raise value.fail_at_key(f"not a name: {key[:60]!r}", "use letters, digits, '-', '_' and '.'")
    known = {"file", "environment", *(["content"] if inline else []), "labels"}
    found = value.fields(known, {"external", "name", "driver", "driver_opts", "template_driver"})
    given = [name for name in ("file", "environment", "content") if name in found]
    if len(given) != 1:
        raise value.fail_at_key(f"{value.path} needs one of {', '.join(sorted(known - {'labels'}))}")
    item = found[given[0]]
    if given[0] == "content":
        text = item.text()
    elif given[0] == "environment":
        name = item.text()
        if name not in variables:
            raise item.fail(f"the variable {name[:60]!r} is not set")
        text = variables[name]
    else:
        text = _read(item, read_file)
    if len(text.encode()) > _LIMIT:
        raise item.fail(f"{value.path} has more than {_LIMIT} bytes")
    return text


def _read(value: Value, read_file: Callable[[str], str]) -> str:
    name = value.text()
    try:
        text = read_file(name)
    except OSError as error:
        raise value.fail(f"the file {name[:100]!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise value.fail(f"the file {name[:100]!r}: {error}") from error
    if "\ufffd" in text or "\0" in text:
        raise value.fail(f"the file {name[:100]!r} is not UTF-8 text")
    return text


def configs(value: Value) -> tuple[FileMount, ...]:
    return tuple(_mount(item, "/") for item in value.each())


def secrets(value: Value) -> tuple[FileMount, ...]:
    return tuple(_mount(item, "/run/secrets/") for item in value.each())


def _mount(value: Value, directory: str) -> FileMount:
    if not value.is_mapping:
        return FileMount(value.text(), directory + value.text())
    found = value.fields({"source", "target", "mode"}, {"uid", "gid"})
    if "source" not in found:
        raise value.fail(f"{value.path} needs a source")
    source = found["source"].text()
    target = directory + source
    if "target" in found:
        written = found["target"].text()
        target = path(found["target"]) if written.startswith("/") else directory + written
    mode = 0o444
    if "mode" in found:
        if not _MODE.fullmatch(found["mode"].text()):
            raise found["mode"].fail(f"not a file's mode: {found['mode'].text()[:20]!r}", "e.g. 0440")
        mode = int(found["mode"].text(), 8)
    return FileMount(source, target, mode)
