"""Which stages are needed, and what each stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from slipway.build.dockerfile import Arg, Copy, Dockerfile, DockerfileError, From, Instruction, expand
from slipway.errors import Invalid, NotFound
from slipway.oci import Platform, Reference

PROXIES = frozenset(
    name
    for base in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (base, base.lower())
)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """``base`` is a stage's index, an image, or ``None`` for scratch."""

    index: int
    name: str
    base: int | Reference | None
    source: From
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The needed stages by index. ``global_args`` have their values; ``builtin`` are the platform's."""

    stages: Mapping[int, StagePlan]
    names: Mapping[str, int]
    target: int
    global_args: Mapping[str, str]
    builtin: Mapping[str, str]
    build_args: Mapping[str, str]
    escape: str
    warnings: tuple[str, ...] = ()


def plan(
    dockerfile: Dockerfile, *, target: str | None, build_args: Mapping[str, str], platform: Platform
) -> BuildPlan:
    """Resolve names and keep what ``target`` (a name or number, by default the last stage) needs.

    Raises ``DockerfileError`` for a stage that is built on something malformed and ``NotFound`` for an unknown target.
    """
    builtin = _builtin(platform)
    values = _global_args(dockerfile, build_args, builtin)
    names: dict[str, int] = {}
    stages: dict[int, StagePlan] = {}
    for stage in dockerfile.stages:
        base = _base(stage.source, values, names, dockerfile.escape)
        stages[stage.index] = StagePlan(stage.index, stage.name, base, stage.source, stage.instructions)
        if stage.name:
            names[stage.name] = stage.index
    wanted = _target(target, names, len(stages))
    needed = _needed(stages, names, wanted)
    used = {
        name for name in build_args if name in _declared(dockerfile) or name in PROXIES or name in builtin
    }
    unused = sorted(set(build_args) - used)
    warnings = (f"build arguments that no ARG declares: {', '.join(unused)}",) if unused else ()
    return BuildPlan(
        {index: stages[index] for index in sorted(needed)}, names, wanted, values, builtin, dict(build_args),
        dockerfile.escape, warnings,
    )  # fmt: skip


def _builtin(platform: Platform) -> dict[str, str]:
    found = {}
    for prefix, value in (("TARGET", platform), ("BUILD", Platform.host())):
        found[f"{prefix}PLATFORM"] = str(value)
        found[f"{prefix}OS"] = value.os
        found[f"{prefix}ARCH"] = value.architecture
        found[f"{prefix}VARIANT"] = value.variant
    return found


def _global_args(
    dockerfile: Dockerfile, build_args: Mapping[str, str], builtin: Mapping[str, str]
) -> dict[str, str]:
    """The values of ARGs before the first FROM: visible in FROM lines, and in a stage once redeclared there."""
    values = dict(builtin)
    for instruction in dockerfile.global_args:
        for name, default in instruction.pairs:
            if name in build_args:
                values[name] = build_args[name]
            elif default is not None:
                values[name] = expand(
                    default, values, lambda text, at=instruction.location: DockerfileError(text, at),  # type: ignore[misc]
                    escape=dockerfile.escape,
                )  # fmt: skip
    return values


def _base(
    source: From, values: Mapping[str, str], names: Mapping[str, int], escape: str
) -> int | Reference | None:
    def fail(text: str) -> DockerfileError:
        return DockerfileError(text, source.location, word=source.base)

    text = expand(source.base, values, fail, escape=escape)
    if not text:
        raise fail(f"the image {source.base!r} is empty: is its ARG set?")
    if text.lower() in names:
        return names[text.lower()]
    if text == "scratch":
        return None
    try:
        return Reference.parse(text)
    except Invalid as error:
        raise fail(error.message) from error


def _target(target: str | None, names: Mapping[str, int], count: int) -> int:
    if target is None:
        return count - 1
    if target.lower() in names:
        return names[target.lower()]
    if target.isascii() and target.isdigit() and int(target) < count:
        return int(target)
    close = get_close_matches(target.lower(), names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"stages are {', '.join(names) or 'unnamed'}"
    raise NotFound(f"there is no stage {target!r} in the Dockerfile", hint=hint)


def _needed(stages: Mapping[int, StagePlan], names: Mapping[str, int], target: int) -> set[int]:
    needed: set[int] = set()
    pending = [target]
    while pending:
        index = pending.pop()
        if index in needed:
            continue
        needed.add(index)
        stage = stages[index]
        if isinstance(stage.base, int):
            pending.append(stage.base)
        for instruction in stage.instructions:
            if isinstance(instruction, Copy) and instruction.from_:
                other = stage_of(instruction.from_, names, index)
                if other is not None:
                    pending.append(other)
    return needed


def stage_of(text: str, names: Mapping[str, int], below: int) -> int | None:
    """The stage before ``below`` that ``--from`` names by name or number; ``None`` if it means an image."""
    index = names.get(text.lower())
    if index is None and text.isascii() and text.isdigit():
        index = int(text)
    return index if index is not None and index < below else None


def _declared(dockerfile: Dockerfile) -> set[str]:
    every = [*dockerfile.global_args, *(item for stage in dockerfile.stages for item in stage.instructions)]
    return {name for item in every if isinstance(item, Arg) for name, _ in item.pairs}
