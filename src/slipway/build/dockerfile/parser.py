"""From logical lines to typed instructions and stages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from slipway.build.dockerfile import instructions as ins
from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.source import MAX_LINES, LogicalLine, read

_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_SIMPLE_PAIR = re.compile(
    r"""\s*((?:[^\s="'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+)=((?:[^\s"'\\]|\\.|\\$|"(?:[^"\\]|\\.)*"|'[^']*')*)""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class StageSyntax:
    """One FROM and what follows it. ``name`` is lower case, or empty."""

    index: int
    name: str
    source: ins.From
    instructions: tuple[ins.Instruction, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed file: its directives, the ARGs before the first FROM, the stages."""

    file: str
    directives: dict[str, str]
    global_args: tuple[ins.Arg, ...]
    stages: tuple[StageSyntax, ...]
    warnings: tuple[str, ...] = ()

    @property
    def escape(self) -> str:
        return self.directives.get("escape", "\\")


def parse(text: bytes | str, file: str = "Dockerfile") -> Dockerfile:
    """Parse a whole Dockerfile. Raises ``DockerfileError`` with the place of the first mistake."""
    content = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if content.count("\n") > MAX_LINES:
        raise DockerfileError(f"the file has more than {MAX_LINES} lines", Location(file, 1, 1, ""))
    directives, lines = read(content, file)
    before: list[ins.Arg] = []
    stages: list[tuple[ins.From, list[ins.Instruction]]] = []
    for line in lines:
        instruction = parse_instruction(line)
        if isinstance(instruction, ins.From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, ins.Arg):
            before.append(instruction)
        else:
            raise DockerfileError(
                "the first instruction must be FROM", line.location, hint="only ARG may stand before it"
            )
    if not stages:
        raise DockerfileError("there is no FROM", Location(file, 1, 1, content.split("\n")[0]),
                              hint="a Dockerfile starts with e.g. FROM debian:bookworm")  # fmt: skip
    found = tuple(
        StageSyntax(index, source.name, source, tuple(rest)) for index, (source, rest) in enumerate(stages)
    )
    return Dockerfile(file, directives, tuple(before), found)


def parse_instruction(line: LogicalLine) -> ins.Instruction:
    """One logical line as an instruction; ONBUILD's trigger is checked too."""
    word, _, rest = line.text.partition(" ") if " " in line.text else line.text.partition("\t")
    word = line.text.split(None, 1)[0]
    rest = line.text[len(word) :].strip()
    handler = _PARSERS.get(word.upper())
    if handler is None:
        close = get_close_matches(word.upper(), _PARSERS, 1, 0.5)
        raise DockerfileError(
            f"unknown instruction: {word[:40]}",
            line.location,
            word=word[:40],
            hint=f"did you mean {close[0]}?" if close else "instructions are RUN, COPY, ENV and so on",
        )
    if not rest and word.upper() not in ("CMD", "ENTRYPOINT"):
        raise DockerfileError(f"{word.upper()} needs an argument", line.location, word=word)
    return handler(_Text(line, word.upper(), rest))


@dataclass(slots=True)
class _Text:
    """An instruction's arguments on their way to becoming typed."""

    line: LogicalLine
    word: str
    rest: str

    @property
    def base(self) -> tuple[Location, str]:
        return self.line.location, self.line.text

    def fail(self, message: str, word: str = "", hint: str = "") -> DockerfileError:
        return DockerfileError(message, self.line.location, word=word, hint=hint)

    def flags(self, known: str, repeatable: str = "") -> dict[str, list[str]]:
        """Leading ``--name=value`` words, taken off ``rest``."""
        found: dict[str, list[str]] = {}
        while match := _FLAG.match(self.rest):
            name = match[1]
            if name not in (names := f"{known} {repeatable}".split()):
                close = get_close_matches(name, names, 1)
                hint = (
                    f"did you mean --{close[0]}?"
                    if close
                    else f"{self.word} knows: {', '.join(names) or 'none'}"
                )
                raise self.fail(f"{self.word} has no flag --{name}", f"--{name}", hint)
            if name in found and name not in repeatable.split():
                raise self.fail(f"--{name} is given twice", f"--{name}")
            found.setdefault(name, []).append(match[2] if match[2] is not None else "true")
            self.rest = self.rest[match.end() :]
        return found

    def json_words(self) -> tuple[str, ...] | None:
        """The rest as a JSON array of strings, or ``None`` when it is none."""
        if not self.rest.startswith("["):
            return None
        try:
            value = json.loads(self.rest)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return None
        return tuple(value)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """``name=value …``, or the old form ``name value`` of one pair."""
        head = self.rest.split(None, 1)
        if "=" not in head[0]:
            if len(head) != 2:
                raise self.fail(f"{self.word} needs a value for {head[0]}", head[0], "write NAME=VALUE")
            return ((head[0], head[1]),)
        found, position = [], 0
        while position < len(self.rest):
            if not self.rest[position:].strip():
                break
            match = _SIMPLE_PAIR.match(self.rest, position)
            if match is None:
                bad = self.rest[position:].split()[0]
                raise self.fail(f"not NAME=VALUE: {bad[:60]}", bad, "quote values with spaces")
            found.append((match[1], match[2]))
            position = match.end()
        return tuple(found)


def _from(text: _Text) -> ins.From:
    platform = text.flags("platform").get("platform", [""])[0]
    words = text.rest.split()
    if len(words) == 1:
        return ins.From(*text.base, words[0], "", platform)
    if len(words) != 3 or words[1].upper() != "AS":
        raise text.fail(
            "FROM takes one image, and a name after AS", hint="e.g. FROM debian:bookworm AS build"
        )
    name = words[2].lower()
    if not _STAGE_NAME.fullmatch(name):
        raise text.fail(f"not a stage name: {words[2][:60]}", words[2], "start with a letter")
    return ins.From(*text.base, words[0], name, platform)


def _arg(text: _Text) -> ins.Arg:
    found: list[tuple[str, str | None]] = []
    position = 0
    while position < len(text.rest):
        if not text.rest[position:].strip():
            break
        match = _SIMPLE_PAIR.match(text.rest, position)
        if match is not None:
            found.append((match[1], match[2]))
            position = match.end()
            continue
        word = text.rest[position:].split()[0]
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", word):
            raise text.fail(f"not an argument name: {word[:60]}", word)
        found.append((word, None))
        position = text.rest.index(word, position) + len(word)
    return ins.Arg(*text.base, tuple(found))


def _command(text: _Text) -> tuple[tuple[str, ...], bool]:
    words = text.json_words()
    return (words, True) if words is not None else ((text.rest,) if text.rest else (), False)


def _run(text: _Text) -> ins.Run:
    flags = text.flags("network security", "mount device")
    if not text.rest:
        raise text.fail("RUN needs a command")
    if "device" in flags:
        raise text.fail("RUN --device is not supported", "--device")
    network = flags.get("network", ["default"])[0]
    if network not in ("default", "none", "host"):
        raise text.fail(f"not a network: {network[:40]}", network, "default, none or host")
    words, exec_form = _command(text)
    return ins.Run(
        *text.base, words, exec_form, text.line.heredocs, tuple(flags.get("mount", ())), network,
        flags.get("security", ["sandbox"])[0],
    )  # fmt: skip


def _copy(text: _Text) -> ins.Copy:
    is_add = text.word == "ADD"
    known = "chown chmod link checksum keep-git-dir unpack" if is_add else "from chown chmod link parents"
    flags = text.flags(known, "exclude")
    words = list(text.json_words() or text.rest.split())
    if len(words) < 2:
        raise text.fail(f"{text.word} needs a source and a destination")
    single = {name: values[0] for name, values in flags.items()}
    others = {k: v for k, v in single.items() if k not in ("from", "chown", "chmod", "link", "exclude")}
    return ins.Copy(
        *text.base, tuple(words[:-1]), words[-1], is_add, single.get("from", ""), single.get("chown", ""),
        single.get("chmod", ""), single.get("link", "false") == "true", text.line.heredocs,
        tuple(flags.get("exclude", ())), others,
    )  # fmt: skip


def _healthcheck(text: _Text) -> ins.Healthcheck:
    flags = text.flags("interval timeout start-period start-interval retries")
    kind, _, rest = text.rest.partition(" ")
    if kind.upper() == "NONE" and not rest.strip():
        return ins.Healthcheck(*text.base, ())
    if kind.upper() != "CMD" or not rest.strip():
        raise text.fail("HEALTHCHECK takes NONE, or CMD and a command", kind)
    text.rest = rest.strip()
    words, exec_form = _command(text)
    order = ("interval", "timeout", "start-period", "start-interval", "retries")
    return ins.Healthcheck(*text.base, words, exec_form, *(flags.get(name, [""])[0] for name in order))


def _shell(text: _Text) -> ins.Shell:
    words = text.json_words()
    if not words:
        raise text.fail("SHELL needs a JSON array", text.rest, 'e.g. SHELL ["/bin/bash", "-c"]')
    return ins.Shell(*text.base, words)


def _onbuild(text: _Text) -> ins.Onbuild:
    word = text.rest.split()[0].upper()
    if word in ("ONBUILD", "FROM", "MAINTAINER"):
        raise text.fail(f"{word} is not allowed in ONBUILD", text.rest.split()[0])
    parse_instruction(LogicalLine(text.rest, text.line.location, text.line.heredocs))
    return ins.Onbuild(*text.base, text.rest)


def _words(text: _Text) -> tuple[str, ...]:
    found = text.json_words()
    return found if found is not None else tuple(text.rest.split())


_PARSERS: dict[str, Callable[[_Text], ins.Instruction]] = {
    "FROM": _from,
    "ARG": _arg,
    "ENV": lambda text: ins.Env(*text.base, text.pairs()),
    "LABEL": lambda text: ins.Label(*text.base, text.pairs()),
    "RUN": _run,
    "CMD": lambda text: ins.Cmd(*text.base, *_command(text)),
    "ENTRYPOINT": lambda text: ins.Entrypoint(*text.base, *_command(text)),
    "COPY": _copy,
    "ADD": _copy,
    "WORKDIR": lambda text: ins.Workdir(*text.base, text.rest),
    "USER": lambda text: ins.User(*text.base, text.rest),
    "EXPOSE": lambda text: ins.Expose(*text.base, tuple(text.rest.split())),
    "VOLUME": lambda text: ins.Volume(*text.base, _words(text)),
    "STOPSIGNAL": lambda text: ins.Stopsignal(*text.base, text.rest),
    "MAINTAINER": lambda text: ins.Maintainer(*text.base, text.rest),
    "HEALTHCHECK": _healthcheck,
    "SHELL": _shell,
    "ONBUILD": _onbuild,
}
