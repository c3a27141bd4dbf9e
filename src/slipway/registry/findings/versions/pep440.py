"""Python packages: ``[N!]N(.N)*[{a|b|rc}N][.postN][.devN][+local]`` (PEP 440)."""

from __future__ import annotations

import re

from slipway.registry.findings.versions.keys import Key, number

_VERSION = re.compile(
    r"v?(?:(?P<epoch>[0-9]+)!)?(?P<release>[0-9]+(?:\.[0-9]+)*)"
    r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_number>[0-9]*))?"
    r"(?:-(?P<implicit>[0-9]+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_number>[0-9]*))?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_number>[0-9]*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?"
)
_PRE = {"a": "a", "alpha": "a", "b": "b", "beta": "b", "c": "rc", "rc": "rc", "pre": "rc", "preview": "rc"}
_SEPARATOR = re.compile(r"[-_.]")
# Before and after whatever a part may be.
_LEAST: Key = (-1,)
_MOST: Key = (1,)


def key(text: str) -> Key:
    text = text.strip().lower()
    found = _VERSION.fullmatch(text)
    if found is None:
        return 0, text
    post = found["post"] or found["implicit"]
    pre: Key
    if found["pre"]:
        pre = (0, _PRE[found["pre"]], number(found["pre_number"]))
    else:
        # 1.0.dev1 is before 1.0a1; 1.0.post1.dev1 is after 1.0.
        pre = _LEAST if found["dev"] and not post else _MOST
    return (
        1,
        number(found["epoch"] or ""),
        _release(found["release"]),
        pre,
        (0, number(found["implicit"] or found["post_number"] or "")) if post else _LEAST,
        (0, number(found["dev_number"])) if found["dev"] else _MOST,
        _local(found["local"]),
    )


def _release(text: str) -> Key:
    """The numbers; zeros at the end do not count."""
    numbers = [number(part) for part in text.split(".")]
    while len(numbers) > 1 and numbers[-1] == number(""):
        numbers.pop()
    return tuple(numbers)


def _local(text: str | None) -> Key:
    if text is None:
        return _LEAST
    parts = _SEPARATOR.split(text)
    return 0, tuple((1, number(part)) if part.isdigit() else (0, part) for part in parts)
