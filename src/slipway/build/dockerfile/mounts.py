"""``RUN --mount=type=…,key=value,…``: five kinds of mount, typed once variables have their values."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

_ALIASES = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite",
}  # fmt: skip
_COMMON = ("type", "readonly", "readwrite")
_KEYS = {
    "bind": ("target", "source", "from"),
    "cache": ("id", "target", "sharing", "from", "source", "mode", "uid", "gid"),
    "tmpfs": ("target", "size"),
    "secret": ("id", "source", "target", "env", "required", "mode", "uid", "gid"),
    "ssh": ("id", "target", "required", "mode", "uid", "gid"),
}
_EVERY = sorted({*_COMMON, *_ALIASES, *(key for keys in _KEYS.values() for key in keys)})
_WITHOUT_VALUE = ("readonly", "readwrite", "required")
_SIZE = re.compile(r"(\d+)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_MAX_ID = 2**32 - 2
Sharing = Literal["shared", "private", "locked"]
Fail = Callable[[str, str, str], Exception]


@dataclass(frozen=True, slots=True)
class BindMount:
    """A directory or file of the context, a stage or an image; with ``read_write``, writes are thrown away."""

    target: str
    source: str = "/"
    from_: str = ""
    read_write: bool = False


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory that is kept between builds under ``id``."""

    target: str
    id: str
    sharing: Sharing = "shared"
    from_: str = ""
    source: str = "/"
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """``size`` in bytes, 0 for no limit of its own."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A secret as a file at ``target`` or (also) in the variable ``env``; never part of a layer or a key."""

    id: str
    target: str = ""
    env: str = ""
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SshMount:
    """An agent's socket; without a ``target``, at a place of its own."""

    id: str = "default"
    target: str = ""
    required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


@dataclass(frozen=True, slots=True)
class MountText:
    """A ``--mount`` as written: keys by their long names, values unexpanded (``None``: a key alone)."""

    text: str
    options: tuple[tuple[str, str | None], ...]

    @property
    def source_stage(self) -> str:
        """What ``from=`` says: a stage or an image, never with a variable."""
        return dict(self.options).get("from") or ""

    def typed(self, expand: Callable[[str], str], fail: Fail) -> Mount:
        """The mount with its variables expanded. ``fail(message, word, hint)`` makes the error."""
        values = {key: "true" if value is None else expand(value) for key, value in self.options}
        kind = values.pop("type", "bind").lower()
        if kind not in _KEYS:
            raise fail(f"not a mount type: {kind[:40]!r}", kind, _suggest(kind, list(_KEYS)))
        for key in values:
            if key not in _KEYS[kind] + _COMMON:
                raise fail(f"a {kind} mount has no {key!r}", key, f"it has {', '.join(_KEYS[kind])}")
        return _BUILDERS[kind](_Values(kind, values, fail))


def read_mount(text: str, fail: Fail) -> MountText:
    """``text`` split into its options; checked as far as it can be before variables have values."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise fail(
            f"the mount is not a list of key=value: {error}", "--mount", "separate with ','"
        ) from error
    options: dict[str, str | None] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        name = _ALIASES.get(key.lower(), key.lower())
        if name not in _EVERY:
            raise fail(f"a mount has no {key[:40]!r}", key, _suggest(key.lower(), _EVERY))
        if name in options:
            raise fail(f"the mount has {name!r} twice", key, "keep one of them")
        if not equals and name not in _WITHOUT_VALUE:
            raise fail(f"the mount's {key!r} needs a value", key, f"write {key}=VALUE")
        if name == "from" and "$" in value:
            raise fail("a mount's from= takes no variable", "from", "name a stage with FROM $IMAGE AS name")
        options[name] = value if equals else None
    found = MountText(text, tuple(options.items()))
    if "$" not in text:
        found.typed(lambda value: value, fail)
    return found


def _suggest(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"


@dataclass(frozen=True, slots=True)
class _Values:
    """The expanded options of one mount, read with their types."""

    kind: str
    values: Mapping[str, str]
    fail: Fail

    def text(self, key: str, default: str = "") -> str:
        return self.values.get(key) or default

    def target(self) -> str:
        if not self.values.get("target"):
            raise self.fail(f"a {self.kind} mount needs a target", "--mount", "add target=/path")
        return self.values["target"]

    def switch(self, key: str) -> bool | None:
        if key not in self.values:
            return None
        value = self.values[key].lower()
        if value not in ("true", "false", "1", "0", "t", "f"):
            raise self.fail(f"{key} is true or false, not {value[:40]!r}", key, "")
        return value in ("true", "1", "t")

    def read_only(self, default: bool) -> bool:
        only, both = self.switch("readonly"), self.switch("readwrite")
        if only is not None and both is not None:
            raise self.fail("a mount is readonly or readwrite, not both", "readonly", "keep one of them")
        return only if only is not None else not both if both is not None else default

    def number(self, key: str, default: int, base: int = 10, most: int = _MAX_ID) -> int:
        text = self.values.get(key)
        if text is None:
            return default
        pattern = r"[0-7]{1,12}" if base == 8 else r"[0-9]{1,12}"
        if not re.fullmatch(pattern, text) or int(text, base) > most:
            raise self.fail(f"not a {key}: {text[:40]!r}", key, "e.g. mode=0755" if base == 8 else "")
        return int(text, base)

    def owner(self, mode: int) -> tuple[int, int, int]:
        return self.number("mode", mode, 8, 0o7777), self.number("uid", 0), self.number("gid", 0)


def _bind(of: _Values) -> Mount:
    return BindMount(of.target(), of.text("source", "/"), of.text("from"), not of.read_only(True))


def _cache(of: _Values) -> Mount:
    sharing = of.text("sharing", "shared").lower()
    if sharing not in ("shared", "private", "locked"):
        raise of.fail(f"not a way of sharing: {sharing[:40]!r}", "sharing", "shared, private or locked")
    target, mode = of.target(), of.owner(0o755)
    return CacheMount(
        target, of.text("id", target), sharing,  # type: ignore[arg-type]
        of.text("from"), of.text("source", "/"), *mode, read_only=of.read_only(False),
    )  # fmt: skip


def _tmpfs(of: _Values) -> Mount:
    text = of.text("size", "0")
    match = _SIZE.fullmatch(text)
    if match is None or len(match[1]) > 15:
        raise of.fail(f"not a size: {text[:40]!r}", "size", "e.g. size=64m")
    return TmpfsMount(of.target(), int(match[1]) << 10 * " kmgtp".index(match[2].lower() or " "))


def _secret(of: _Values) -> Mount:
    if of.values.get("id") and of.values.get("source"):
        raise of.fail("a secret mount has an id or a source, not both", "source", "they mean the same")
    target, env = of.text("target"), of.text("env")
    name = of.text("id") or of.text("source") or target.rpartition("/")[2]
    if not name:
        raise of.fail("a secret mount needs an id", "--mount", "add id=NAME")
    if not target and not env:
        target = f"/run/secrets/{name}"
    return SecretMount(name, target, env, bool(of.switch("required")), *of.owner(0o400))


def _ssh(of: _Values) -> Mount:
    return SshMount(
        of.text("id", "default"), of.text("target"), bool(of.switch("required")), *of.owner(0o600)
    )


_BUILDERS: Mapping[str, Callable[[_Values], Mount]] = {
    "bind": _bind,
    "cache": _cache,
    "tmpfs": _tmpfs,
    "secret": _secret,
    "ssh": _ssh,
}
