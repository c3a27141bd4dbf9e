"""Which ARG has which value where.

An ARG before the first FROM is visible in FROM lines only; a stage sees it, like the platform's arguments, once it
declares the name itself. What a stage declared, stages built on it see too; its siblings do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from slipway.build.dockerfile import Arg, Dockerfile, DockerfileError, Location, expand, is_text
from slipway.errors import Invalid
from slipway.oci import Platform

PROXIES = frozenset(
    name
    for base in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (base, base.lower())
)
# Arguments that steer a builder; no ARG has to declare them.
_BUILDER = ("BUILDKIT_", "SOURCE_DATE_EPOCH")


def check_build_args(build_args: Mapping[str, str]) -> None:
    """Raises ``Invalid`` for what could never be a variable."""
    for name, value in build_args.items():
        if not name or "=" in name or not is_text(name + value):
            raise Invalid(f"not a build argument: {name[:60]!r}", hint="write NAME=VALUE")


def predefined_args(target: Platform, stage: str | None) -> dict[str, str]:
    """TARGETPLATFORM, BUILDARCH and so on; TARGETSTAGE is what was asked for."""
    found = {"TARGETSTAGE": stage or "default"}
    for prefix, value in (("TARGET", target), ("BUILD", Platform.host())):
        found[f"{prefix}PLATFORM"] = str(value)
        found[f"{prefix}OS"] = value.os
        found[f"{prefix}ARCH"] = value.architecture
        found[f"{prefix}VARIANT"] = value.variant
    return found


def global_values(
    dockerfile: Dockerfile, build_args: Mapping[str, str], builtin: Mapping[str, str]
) -> dict[str, str]:
    """The values of ARGs before the first FROM, over the platform's."""
    values = dict(builtin)
    for instruction in dockerfile.global_args:
        for name, default in instruction.pairs:
            if name in build_args:
                values[name] = build_args[name]
            elif default is not None:
                values[name] = expand(
                    default, values, failing(instruction.location), escape=dockerfile.escape
                )
    return values


def failing(location: Location, word: str = "") -> Callable[[str], DockerfileError]:
    """Makes errors at one place; ``word`` is where the caret goes."""
    return lambda message: DockerfileError(message, location, word=word)


def unused_args(
    dockerfile: Dockerfile, build_args: Mapping[str, str], builtin: Mapping[str, str]
) -> list[str]:
    """Build arguments that nothing declares: most often a misspelt name."""
    every = [*dockerfile.global_args, *(item for stage in dockerfile.stages for item in stage.instructions)]
    declared = {name for item in every if isinstance(item, Arg) for name, _ in item.pairs}
    known = declared | PROXIES | set(builtin)
    return sorted(name for name in build_args if name not in known and not name.startswith(_BUILDER))
