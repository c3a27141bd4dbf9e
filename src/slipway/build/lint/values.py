"""Rules about variables: those that are not there, and what the others make of a FROM."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches

from slipway.build.dockerfile import Arg, DockerfileError, Env, From, Instruction, Location, expand
from slipway.build.lint.findings import Found, Subject
from slipway.build.plan.scope import PROXIES, predefined_args
from slipway.errors import Invalid
from slipway.oci import Platform, Reference

_VARIABLE = re.compile(
    r"(?<!\\)\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?P<modifier>[:#%/+?-])?|(?P<bare>[A-Za-z_]\w*))"
)
_COMMENT = re.compile(r"#\s*(?P<word>\S+)")
_EXPANDED = ("ADD", "COPY", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")


def undefined_arg_in_from(of: Subject) -> Found:
    known = {*predefined_args(of.platform, None), *_names(of.dockerfile.global_args)}
    for stage in of.dockerfile.stages:
        for name in _used(f"{stage.source.base} {stage.source.platform}"):
            if name not in known:
                yield (
                    stage.source.location,
                    f"FROM uses ${name}, which no ARG before the first FROM declares" + _like(name, known),
                )


def undefined_var(of: Subject) -> Found:
    """A base image may bring variables that cannot be seen here: then only what looks like a slip is told."""
    ends: dict[str, tuple[set[str], bool]] = {}
    for stage in of.dockerfile.stages:
        base = stage.source.base.lower()
        known, sure = ends.get(base, (set(PROXIES), base == "scratch"))
        known = set(known)
        for item in stage.instructions:
            if item.original.split(None, 1)[0].upper() in _EXPANDED:
                for name in _used(item.original):
                    like = _like(name, known)
                    if name not in known and name != "PATH" and (sure or like):
                        yield item.location, f"the variable ${name} is not defined{like}"
            if isinstance(item, Arg | Env):
                known |= _names((item,))
        if stage.name:
            ends[stage.name] = (known, sure)
        ends[str(stage.index)] = (known, sure)


def invalid_default_arg_in_from(of: Subject) -> Found:
    """Without any build argument, each FROM should still name an image."""
    values = predefined_args(of.platform, None)
    for item in of.dockerfile.global_args:
        for name, default in item.pairs:
            values[name] = _expanded(default or "", values, item.location, of)
    for stage in of.dockerfile.stages:
        if "$" not in stage.source.base:
            continue
        text = _expanded(stage.source.base, values, stage.source.location, of)
        try:
            Reference.parse(text)
        except Invalid:
            yield (
                stage.source.location,
                f"with the defaults of its arguments {stage.source.base!r} is no image: {text!r}",
            )


def invalid_base_image_platform(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        found = of.platforms.get(stage.source.base)
        wanted = _platform(stage.source, of)
        if found is not None and wanted is not None and found != wanted:
            yield stage.source.location, f"{stage.source.base} is for {found}, not for {wanted}"


def redundant_target_platform(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        if stage.source.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield stage.source.location, "--platform=$TARGETPLATFORM is the default anyway"


def from_platform_flag_const_disallowed(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        platform = stage.source.platform
        if not platform or "$" in platform:
            continue
        if not any(part and part in stage.name for part in platform.lower().split("/")):
            yield (
                stage.source.location,
                f"--platform={platform} holds for every platform the image is built for",
            )


def invalid_definition_description(of: Subject) -> Found:
    """A comment right above an ARG or a stage describes it, and begins with its name. Off unless asked for."""
    for item in (*of.dockerfile.global_args, *(stage.source for stage in of.dockerfile.stages)):
        comment = _COMMENT.match(of.dockerfile.comments.get(item.location.line - 1, ""))
        name = next(iter(_names((item,))), "") if isinstance(item, Arg) else getattr(item, "name", "")
        if comment and name and comment["word"].lower() != name.lower():
            yield (
                item.location,
                f"the comment above should begin with {name!r}, or be set off by an empty line",
            )


def _names(items: tuple[Instruction, ...]) -> set[str]:
    return {name for item in items if isinstance(item, Arg | Env) for name, _ in item.pairs}


def _used(text: str) -> Iterator[str]:
    """Variables that are simply used: one with a default or a test for being set may be missing."""
    for match in _VARIABLE.finditer(re.sub(r"'[^']*'", "", text)):
        if match["modifier"] not in (":", "-", "+", "?"):
            yield match["braced"] or match["bare"]


def _like(name: str, known: set[str]) -> str:
    close = get_close_matches(name.lower(), [item.lower() for item in known], 1, 0.75)
    found = next((item for item in known if close and item.lower() == close[0]), "")
    return f" (did you mean ${found}?)" if found else ""


def _expanded(text: str, values: Mapping[str, str], location: Location, of: Subject) -> str:
    fail: Callable[[str], DockerfileError] = lambda why: DockerfileError(why, location)  # noqa: E731
    try:
        return expand(text, values, fail, escape=of.dockerfile.escape)
    except DockerfileError:
        return ""


def _platform(source: From, of: Subject) -> Platform | None:
    text = _expanded(source.platform, predefined_args(of.platform, None), source.location, of)
    try:
        return Platform.parse(text) if text else of.platform
    except Invalid:
        return None
