"""A whole Dockerfile: the ARGs before the first FROM, and the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    """A parsed file. ``warnings`` are texts with their place in front.

    For the build checks: ``gaps`` are instructions with an empty line inside, ``comments`` those right above an ARG
    before the first FROM or a FROM, by their line.
    """

    file: str
    directives: Directives
    global_args: tuple[ins.Arg, ...]
    stages: tuple[StageSyntax, ...]
    warnings: tuple[str, ...] = ()
    gaps: tuple[Location, ...] = ()
    comments: Mapping[int, str] = field(default_factory=dict)

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
    gaps: list[Location] = []
    for number, line in enumerate(lines, 1):
        if number > MAX_INSTRUCTIONS:
            raise DockerfileError(f"the file has more than {MAX_INSTRUCTIONS} instructions", line.location)
        instruction = read_instruction(line, warnings)
        if line.gap:
            gaps.append(line.location)
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
    comments = _comments(text, [*before, *(stage.source for stage in found)])
    return Dockerfile(file, directives, tuple(before), found, tuple(warnings), tuple(gaps), comments)


def _too_early(line: LogicalLine) -> DockerfileError:
    word = line.text.split(None, 1)[0]
    return DockerfileError(
        f"{word.upper()} stands before the first FROM",
        line.location,
        word=word,
        hint="only ARG may stand there",
    )


def _comments(text: bytes | str, below: Sequence[ins.Instruction]) -> dict[int, str]:
    """The comments right above these instructions."""
    lines = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).split("\n")
    numbers = [item.location.line - 1 for item in below]
    return {n: line for n in numbers if n > 0 and (line := lines[n - 1].strip()).startswith("#")}
