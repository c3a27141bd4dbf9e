"""One reader for each instruction: its arguments become the typed value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Literal

from slipway.build.dockerfile import instructions as ins
from slipway.build.dockerfile.arguments import Arguments
from slipway.build.dockerfile.devices import read_device
from slipway.build.dockerfile.durations import nanoseconds
from slipway.build.dockerfile.errors import DockerfileError
from slipway.build.dockerfile.heredocs import opening
from slipway.build.dockerfile.lines import LogicalLine
from slipway.build.dockerfile.mounts import read_mount
from slipway.build.dockerfile.words import split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*", re.ASCII)
_MILLISECOND = 1_000_000
_NO_TRIGGERS = ("ONBUILD", "FROM", "MAINTAINER")
_MAY_BE_EMPTY = ("CMD", "ENTRYPOINT")

_NETWORKS: dict[str, Literal["none", "default", "host"]] = {
    "none": "none",
    "default": "default",
    "host": "host",
}


def read_instruction(line: LogicalLine, warnings: list[str] | None = None) -> ins.Instruction:
    """One logical line as an instruction. What is odd but allowed is added to ``warnings``."""
    word = line.text.split(None, 1)[0]
    reader = _READERS.get(word.upper())
    if reader is None:
        close = get_close_matches(word.upper(), _READERS, 1, 0.5)
        raise DockerfileError(
            f"unknown instruction: {word[:40]}" + (f"; did you mean {close[0]}?" if close else ""),
            line.location,
            word=word,
            hint=f"write {close[0]}" if close else f"one of {', '.join(_READERS)}",
        )
    rest = line.text[len(word) :].strip()
    if not rest and word.upper() not in _MAY_BE_EMPTY:
        raise DockerfileError(f"{word.upper()} needs an argument", line.location, word=word)
    return reader(Arguments(line, word.upper(), rest, warnings if warnings is not None else []))


def _from(text: Arguments) -> ins.From:
    platform = text.flags("platform").text("platform")
    words = text.rest.split()
    if len(words) == 1:
        return ins.From(*text.base, words[0], "", platform)
    if len(words) != 3 or words[1].upper() != "AS":
        raise text.fail(
            "FROM takes one image, and a name after AS", words[1] if len(words) > 1 else "",
            "e.g. FROM debian:bookworm AS build",
        )  # fmt: skip
    name = words[2].lower()
    if not _STAGE_NAME.fullmatch(name):
        raise text.fail(
            f"not a stage name: {words[2][:60]}", words[2], "letters, digits, '.', '_', '-'; a letter first"
        )
    return ins.From(*text.base, words[0], name, platform)


def _arg(text: Arguments) -> ins.Arg:
    text.flags()
    found: list[tuple[str, str | None]] = []
    for word in split_words(text.rest, text.line.escape):
        name, equals, value = word.partition("=")
        found.append((text.name(name, word), value if equals else None))
    return ins.Arg(*text.base, tuple(found))


def _env(text: Arguments) -> ins.Env:
    text.flags()
    return ins.Env(*text.base, text.pairs())


def _label(text: Arguments) -> ins.Label:
    text.flags()
    return ins.Label(*text.base, text.pairs())


def _run(text: Arguments) -> ins.Run:
    flags = text.flags("network", "security", repeatable=("mount", "device"))
    stated = flags.text("network") or "default"
    network = _NETWORKS.get(stated)
    if network is None:
        raise text.fail(f"not a network: {stated[:40]}", stated, "default, none or host")
    security = flags.text("security") or "sandbox"
    if security not in ("sandbox", "insecure"):
        raise text.fail(f"not a security mode: {security[:40]}", security, "sandbox or insecure")
    mounts = tuple(read_mount(item, text.fail) for item in flags.texts("mount"))
    devices = tuple(read_device(item, text.fail) for item in flags.texts("device"))
    words, exec_form = text.command()
    if not words or not words[0]:
        raise text.fail("RUN needs a command")
    return ins.Run(*text.base, words, exec_form, text.line.heredocs, mounts, network, security, devices)


def _cmd(text: Arguments) -> ins.Cmd:
    text.flags()
    return ins.Cmd(*text.base, *text.command())


def _entrypoint(text: Arguments) -> ins.Entrypoint:
    text.flags()
    return ins.Entrypoint(*text.base, *text.command())


def _copied(text: Arguments) -> tuple[tuple[str, ...], str]:
    """Sources and destination."""
    words = text.list()
    if len(words) < 2:
        raise text.fail(
            f"{text.word} needs a source and a destination", hint=f"e.g. {text.word} src/ /app/src/"
        )
    if opening(words[-1]) and text.line.heredocs:
        raise text.fail("a heredoc cannot be the destination", words[-1], "put the destination last")
    return words[:-1], words[-1]


def _copy(text: Arguments) -> ins.Copy:
    flags = text.flags("from", "chown", "chmod", "link", "parents", repeatable=("exclude",))
    sources, dest = _copied(text)
    return ins.Copy(
        *text.base, sources, dest, False, flags.text("from"), flags.text("chown"), flags.text("chmod"),
        bool(flags.switch("link")), bool(flags.switch("parents")), flags.texts("exclude"), text.line.heredocs,
    )  # fmt: skip


def _add(text: Arguments) -> ins.Copy:
    flags = text.flags(
        "chown", "chmod", "link", "checksum", "keep-git-dir", "unpack", repeatable=("exclude",)
    )
    sources, dest = _copied(text)
    return ins.Copy(
        *text.base, sources, dest, True, "", flags.text("chown"), flags.text("chmod"),
        bool(flags.switch("link")), False, flags.texts("exclude"), text.line.heredocs, flags.text("checksum"),
        bool(flags.switch("keep-git-dir")), flags.switch("unpack"),
    )  # fmt: skip


def _one(make: Callable[..., ins.Instruction]) -> Callable[[Arguments], ins.Instruction]:
    """An instruction whose whole rest is one argument."""

    def reader(text: Arguments) -> ins.Instruction:
        text.flags()
        return make(*text.base, text.rest)

    return reader


def _expose(text: Arguments) -> ins.Expose:
    text.flags()
    return ins.Expose(*text.base, tuple(text.rest.split()))


def _volume(text: Arguments) -> ins.Volume:
    text.flags()
    words = text.list()
    if not words or not all(word.strip() for word in words):
        raise text.fail("VOLUME needs paths that are not empty", hint="e.g. VOLUME /data")
    return ins.Volume(*text.base, words)


def _maintainer(text: Arguments) -> ins.Maintainer:
    return ins.Maintainer(*text.base, text.rest)


def _healthcheck(text: Arguments) -> ins.Healthcheck:
    flags = text.flags("interval", "timeout", "start-period", "start-interval", "retries")
    kind, *rest = text.rest.split(None, 1) or [""]
    text.rest = "".join(rest)
    if kind.upper() == "NONE" and not text.rest and not flags.values:
        return ins.Healthcheck(*text.base, ())
    if kind.upper() != "CMD":
        raise text.fail("HEALTHCHECK takes NONE alone, or CMD and a command", kind)
    words, exec_form = text.command()
    if not words:
        raise text.fail("HEALTHCHECK CMD needs a command", kind)
    retries = flags.text("retries") or "0"
    if not re.fullmatch(r"[0-9]{1,9}", retries):
        raise text.fail(f"not a number of retries: {retries[:40]!r}", retries)
    names = ("interval", "timeout", "start-period", "start-interval")
    interval, timeout, period, start = (_time(text, flags.text(name), name) for name in names)
    return ins.Healthcheck(*text.base, words, exec_form, interval, timeout, period, start, int(retries))


def _time(text: Arguments, value: str, name: str) -> int:
    found = nanoseconds(value) if value else 0
    if found is None:
        raise text.fail(f"not a duration: {value[:40]!r}", value, f"e.g. --{name}=30s or --{name}=1m30s")
    if 0 < found < _MILLISECOND:
        raise text.fail(f"--{name} is less than 1ms", value, f"e.g. --{name}=1s")
    return found


def _shell(text: Arguments) -> ins.Shell:
    text.flags()
    words = text.json_words()
    if not words:
        raise text.fail("SHELL needs a JSON array", text.rest, 'e.g. SHELL ["/bin/bash", "-c"]')
    return ins.Shell(*text.base, words)


def _onbuild(text: Arguments) -> ins.Onbuild:
    text.flags()
    word = text.rest.split()[0] if text.rest else ""
    if word.upper() in _NO_TRIGGERS:
        raise text.fail(f"{word.upper()} is not allowed in ONBUILD", word)
    line = text.line
    inner = LogicalLine(text.rest, line.location, line.heredocs, line.escape)
    found = read_instruction(inner, text.warnings)
    # An image keeps the trigger as text: with its heredocs, so that it can be read again.
    documents = "".join(f"\n{item.content}{item.name}" for item in line.heredocs)
    return ins.Onbuild(*text.base, text.rest + documents, found)


_READERS: Mapping[str, Callable[[Arguments], ins.Instruction]] = {
    "FROM": _from,
    "RUN": _run,
    "COPY": _copy,
    "ADD": _add,
    "ARG": _arg,
    "ENV": _env,
    "LABEL": _label,
    "WORKDIR": _one(ins.Workdir),
    "USER": _one(ins.User),
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "STOPSIGNAL": _one(ins.Stopsignal),
    "SHELL": _shell,
    "HEALTHCHECK": _healthcheck,
    "ONBUILD": _onbuild,
    "MAINTAINER": _maintainer,
}
