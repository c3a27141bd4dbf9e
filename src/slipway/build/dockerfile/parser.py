"""A whole Dockerfile: the ARGs before the first FROM, and the stages."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.build.dockerfile import instructions as ins
from slipway.build.dockerfile.directives import Directives
from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.lines import LogicalLine, read
from slipway.build.dockerfile.readers import read_instruction


@dataclass(frozen=True, slots=True)
class StageSyntax:
    """One FROM and what follows it. ``name`` is lower case, or empty."""

    index: int
    name: str
    source: ins.From
    instructions: tuple[ins.Instruction, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed file. ``warnings`` are texts with their place in front."""

    file: str
    directives: Directives
    global_args: tuple[ins.Arg, ...]
    stages: tuple[StageSyntax, ...]
    warnings: tuple[str, ...] = ()

    @property
    def escape(self) -> str:
        return self.directives.escape


MAX_INSTRUCTIONS = 10_000


def parse(text: bytes | str, file: str = "Dockerfile") -> Dockerfile:
    """Parse a whole Dockerfile. Raises ``DockerfileError`` with the place of the first mistake."""
    directives, lines = read(text, file)
    before: list[ins.Arg] = []
    stages: list[tuple[ins.From, list[ins.Instruction]]] = []
    warnings: list[str] = []
    for number, line in enumerate(lines, 1):
        if number > MAX_INSTRUCTIONS:
            raise DockerfileError(f"the file has more than {MAX_INSTRUCTIONS} instructions", line.location)
        instruction = read_instruction(line, warnings)
        if line.gap:
            warnings.append(f"{file}:{line.location.line}: an empty line inside a continued instruction")
        if isinstance(instruction, ins.From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, ins.Arg):
            before.append(instruction)
        else:
            raise _too_early(line)
    if not stages:
        raise DockerfileError(
            "there is no FROM",
            Location(file, 1, 1, ""),
            hint="a Dockerfile starts with e.g. FROM debian:bookworm",
        )
    found = tuple(
        StageSyntax(index, source.name, source, tuple(rest)) for index, (source, rest) in enumerate(stages)
    )
    return Dockerfile(file, directives, tuple(before), found, (*warnings, *_same_names(found, file)))


def _too_early(line: LogicalLine) -> DockerfileError:
    word = line.text.split(None, 1)[0]
    return DockerfileError(
        f"{word.upper()} stands before the first FROM",
        line.location,
        word=word,
        hint="only ARG may stand there",
    )


def _same_names(stages: tuple[StageSyntax, ...], file: str) -> list[str]:
    warnings = []
    names: set[str] = set()
    for stage in stages:
        if stage.name and stage.name in names:
            place = f"{file}:{stage.source.location.line}"
            warnings.append(f"{place}: a second stage named {stage.name!r}; later uses mean this one")
        names.add(stage.name)
    return warnings
