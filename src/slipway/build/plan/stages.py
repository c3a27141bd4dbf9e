"""Which stages are needed, and what each stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from slipway.build.dockerfile import (
    Copy,
    Dockerfile,
    DockerfileError,
    From,
    Location,
    Onbuild,
    Run,
    StageSyntax,
    expand,
)
from slipway.build.plan.inherit import ForgetTriggers, Step
from slipway.build.plan.scope import check_build_args, failing, global_values, predefined_args, unused_args
from slipway.errors import Invalid, NotFound
from slipway.oci import Platform, Reference

Contexts = Mapping[str, Reference | None]
"""Contexts by name, in lower case: an image, or ``None`` for a directory."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """``base`` is a stage's index, an image, or ``None`` for scratch; ``platform`` is the base image's.

    ``source`` is the FROM with its flag expanded. ``instructions`` begin with the ONBUILD triggers of a base that is
    a stage of the same file; those of an image are known only once it is resolved. ``depends_on`` are the stages that
    the base, COPY and mounts read from.
    """

    index: int
    name: str
    base: int | Reference | None
    source: From
    instructions: tuple[Step, ...]
    platform: Platform
    depends_on: frozenset[int] = frozenset()

    @property
    def location(self) -> Location:
        return self.source.location


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The needed stages by index, which is an order in which each comes after what it depends on.

    ``names`` are those of all stages of the file, needed or not, empty for one without. ``global_args`` have their
    values; ``builtin`` are the platform's.
    """

    stages: Mapping[int, StagePlan]
    names: tuple[str, ...]
    target: int
    global_args: Mapping[str, str]
    builtin: Mapping[str, str]
    build_args: Mapping[str, str]
    escape: str
    warnings: tuple[str, ...] = ()
    contexts: Contexts = field(default_factory=dict)


def plan(
    dockerfile: Dockerfile, *, target: str | None, build_args: Mapping[str, str], platform: Platform,
    contexts: Contexts | None = None,
) -> BuildPlan:  # fmt: skip
    """Resolve names and keep what ``target`` (a name or number, by default the last stage) needs.

    ``contexts`` come before stages and images of the same name.

    Raises ``DockerfileError`` for a needed stage that is built on something malformed, ``NotFound`` for an unknown
    target and ``Invalid`` for a build argument that is none.
    """
    check_build_args(build_args)
    builtin = predefined_args(platform, target)
    values = global_values(dockerfile, build_args, builtin)
    given = contexts or {}
    found = _Stages(dockerfile, values, platform, given)
    wanted = _target(target, found.names)
    needed = found.needed(wanted)
    unused = unused_args(dockerfile, build_args, builtin)
    warnings = dockerfile.warnings
    if unused:
        warnings = (*warnings, f"build arguments that no ARG declares: {', '.join(unused)}")
    return BuildPlan(
        needed, found.names, wanted, values, builtin, dict(build_args), dockerfile.escape, warnings, given
    )


class _Stages:
    """The stages of one file, resolved as they are asked for: what nobody needs may be wrong."""

    def __init__(
        self, dockerfile: Dockerfile, values: Mapping[str, str], platform: Platform, contexts: Contexts
    ) -> None:
        self._contexts = contexts
        self._file = dockerfile
        self._values = values
        self._platform = platform
        self.names = tuple(stage.name for stage in dockerfile.stages)

    def needed(self, target: int) -> dict[int, StagePlan]:
        found: dict[int, StagePlan] = {}
        pending = [target]
        while pending:
            index = pending.pop()
            if index not in found:
                found[index] = self._plan(self._file.stages[index])
                pending += found[index].depends_on
        return {index: found[index] for index in sorted(found)}

    def _plan(self, stage: StageSyntax) -> StagePlan:
        source = stage.source
        base = self._base(source, stage.index)
        steps = (*(self._triggers(base) if isinstance(base, int) else ()), *stage.instructions)
        depends = {base} if isinstance(base, int) else set()
        for step in steps:
            depends |= _read_stages(step, self.names, stage.index, self._contexts)
        platform = self._platform_of(source)
        if source.platform:
            source = replace(source, platform=str(platform))
        return StagePlan(stage.index, stage.name, base, source, steps, platform, frozenset(depends))

    def _base(self, source: From, index: int) -> int | Reference | None:
        fail = failing(source.location, source.base)
        text = expand(source.base, self._values, fail, escape=self._file.escape)
        if not text:
            raise DockerfileError(
                f"the image {source.base!r} is empty", source.location, word=source.base,
                hint="give its ARG, which must stand before the first FROM, a default or a --build-arg",
            )  # fmt: skip
        if text.lower() in self._contexts:
            image = self._contexts[text.lower()]
            if image is None:
                raise DockerfileError(
                    f"the context {text!r} is a directory, and FROM needs an image", source.location,
                    word=source.base, hint=f"--build-context {text}=docker-image://IMAGE",
                )  # fmt: skip
            return image
        named = _latest(text, self.names[:index])
        if named is not None:
            return named
        if text == "scratch":
            return None
        try:
            return Reference.parse(text)
        except Invalid as error:
            raise DockerfileError(
                error.message, source.location, word=source.base, hint=error.hint
            ) from error

    def _platform_of(self, source: From) -> Platform:
        if not source.platform:
            return self._platform
        fail = failing(source.location, "--platform")
        text = expand(source.platform, self._values, fail, escape=self._file.escape)
        try:
            return Platform.parse(text)
        except Invalid as error:
            raise DockerfileError(
                error.message, source.location, word="--platform", hint=error.hint
            ) from error

    def _triggers(self, base: int) -> tuple[Step, ...]:
        """What the base stage wants done in stages on top of it; grandchildren do not inherit it."""
        found = [item for item in self._file.stages[base].instructions if isinstance(item, Onbuild)]
        if not found:
            return ()
        forget = ForgetTriggers(found[0].location, found[0].original)
        return (forget, *(item.instruction for item in found))


def _target(target: str | None, names: Sequence[str]) -> int:
    if target is None:
        return len(names) - 1
    named = _latest(target, names)
    if named is not None:
        return named
    if target.isascii() and target.isdigit() and int(target[:7]) < len(names):
        return int(target)
    known = [name for name in names if name]
    close = get_close_matches(target.lower(), known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"stages are {', '.join(known) or 'unnamed'}"
    raise NotFound(f"there is no stage {target[:100]!r} in the Dockerfile", hint=hint)


def _latest(name: str, names: Sequence[str]) -> int | None:
    """The last stage of this name, in any case."""
    found = [index for index, item in enumerate(names) if item and item == name.lower()]
    return found[-1] if found else None


def _read_stages(step: Step, names: Sequence[str], index: int, contexts: Contexts) -> set[int]:
    words: list[str] = []
    if isinstance(step, Copy) and step.from_:
        words = [step.from_]
    elif isinstance(step, Run):
        words = [mount.source_stage for mount in step.mounts if mount.source_stage]
    found = (stage_of(word, names, index, step) for word in words if word.lower() not in contexts)
    return {stage for stage in found if stage is not None}


def stage_of(text: str, names: Sequence[str], below: int, at: Step) -> int | None:
    """The stage before ``below`` that ``from=`` names by name or number; ``None`` if it means an image.

    Raises ``DockerfileError`` for the stage itself and for later ones, which are not there yet.
    """
    if "$" in text:
        raise DockerfileError(
            f"from={text} takes no variable", at.location, word=text,
            hint=f"name a stage for it: FROM {text} AS source, with the ARG before the first FROM",
        )  # fmt: skip
    index = _latest(text, names[:below])
    if index is None:
        index = _latest(text, names)
    if index is None:
        if not (text.isascii() and text.isdigit()):
            return None
        index = int(text[:7])
        if index >= len(names):
            raise DockerfileError(
                f"there is no stage {text[:20]}",
                at.location,
                word=text,
                hint=f"the last one is {len(names) - 1}",
            )
    if index < below:
        return index
    which = "itself" if index == below else f"the stage {text!r}, which comes later"
    raise DockerfileError(
        f"a stage cannot copy from {which}", at.location, word=text, hint="move that stage up"
    )
