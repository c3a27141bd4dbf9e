"""Rules about instructions that do something else than they seem to, or nothing."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict

from slipway.build.dockerfile import Cmd, Copy, Entrypoint, Healthcheck, Maintainer, Shell, Workdir
from slipway.build.lint.findings import Found, Subject

_WILDCARD = re.compile(r"[*?\[\\$]")
_URL = re.compile(r"[a-z]+://|git@", re.IGNORECASE)


def no_empty_continuation(of: Subject) -> Found:
    for location in of.dockerfile.gaps:
        yield location, "an empty line inside a continued instruction; later releases refuse it"


def json_args_recommended(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        if any(isinstance(item, Shell) for item in stage.instructions):
            continue
        for item in stage.instructions:
            if isinstance(item, Cmd | Entrypoint) and not item.exec_form and any(item.words):
                word = "CMD" if isinstance(item, Cmd) else "ENTRYPOINT"
                yield (
                    item.location,
                    f"{word} through a shell does not pass signals on: write it as a JSON array",
                )


def maintainer_deprecated(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        for item in stage.instructions:
            if isinstance(item, Maintainer):
                yield item.location, "MAINTAINER is deprecated; use LABEL org.opencontainers.image.authors=…"


def workdir_relative_path(of: Subject) -> Found:
    absolute: dict[int, bool] = {}
    names: dict[str, int] = {}
    for stage in of.dockerfile.stages:
        known = absolute.get(names.get(stage.source.base.lower(), -1), False)
        for item in stage.instructions:
            if isinstance(item, Workdir):
                if not known and not item.path.startswith(("/", "$")):
                    yield item.location, f"WORKDIR {item.path} begins wherever the base image's ends"
                known = True
        absolute[stage.index] = known
        if stage.name:
            names[stage.name] = stage.index


def multiple_instructions_disallowed(of: Subject) -> Found:
    for stage in of.dockerfile.stages:
        kinds: defaultdict[str, list[Cmd | Entrypoint | Healthcheck]] = defaultdict(list)
        for item in stage.instructions:
            if isinstance(item, Cmd | Entrypoint | Healthcheck):
                kinds[type(item).__name__.upper()].append(item)
        for word, items in kinds.items():
            for item in items[:-1]:
                yield item.location, f"only the last {word} of a stage counts, so this one does nothing"


def copy_ignored_file(of: Subject) -> Found:
    if of.ignored is None:
        return
    for stage in of.dockerfile.stages:
        for item in stage.instructions:
            if not isinstance(item, Copy) or item.from_:
                continue
            for source in item.sources:
                path = posixpath.normpath("/" + source).strip("/")
                plain = path and not (
                    _WILDCARD.search(source) or _URL.match(source) or source.startswith("<<")
                )
                if plain and of.ignored(path, False):
                    yield item.location, f"{source!r} is left out by the ignore file, so it cannot be copied"
