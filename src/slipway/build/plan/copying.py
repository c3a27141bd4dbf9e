"""COPY, ADD and WORKDIR."""

from __future__ import annotations

import re

from slipway.build.dockerfile import Copy, DockerfileError, Workdir, expand, opening
from slipway.build.plan.lowering import Lowering, clean, configured
from slipway.build.plan.modes import normal_mode
from slipway.build.plan.operations import CopyOp, WorkdirOp
from slipway.build.plan.sources import source_of

_URL = re.compile(r"(?:https?|git|ssh)://|git@[^/]+:", re.IGNORECASE)


def copy(at: Lowering, item: Copy) -> CopyOp:
    sources, heredocs = _sources(at, item)
    dest = at.expand(item.dest)
    absolute = clean(dest, at.state.workdir)
    if absolute != "/" and (dest in ("", ".") or dest.endswith(("/", "/."))):
        absolute += "/"
    owner, mode = _owner(at, item), _mode(at, item)
    operation = CopyOp(
        source_of(at, item.from_), sources, absolute, owner, mode, item.is_add and item.unpack is not False, heredocs,
        _described(item, [*sources, *(f"<<{name}" for name, _ in heredocs), dest], owner, mode), item.location,
        item.link, item.parents, tuple(at.expand(pattern) for pattern in item.exclude),
    )  # fmt: skip
    _refuse(at, item)
    return operation


def _refuse(at: Lowering, item: Copy) -> None:
    """What the operation can say but the solver cannot do yet. A --link is copied like anything else."""
    flags = (
        ("--parents", item.parents), ("--exclude", bool(item.exclude)), ("--checksum", bool(item.checksum)),
        ("--keep-git-dir", item.keep_git_dir),
    )  # fmt: skip
    for flag, given in flags:
        if given:
            raise at.unsupported(flag)


def _sources(at: Lowering, item: Copy) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Paths, and the heredocs among the sources with their contents."""
    documents = {document.name: document for document in item.heredocs}
    paths: list[str] = []
    heredocs: list[tuple[str, str]] = []
    for word in item.sources:
        start = opening(word)
        document = documents.get(start.name) if start else None
        if document is None:
            paths.append(_path(at, item, word))
            continue
        text = document.text
        if document.expand:
            text = expand(text, at.values, at.fail, escape="\\", raw=True)
        heredocs.append((document.name, text))
    return tuple(paths), tuple(heredocs)


def _path(at: Lowering, item: Copy, word: str) -> str:
    try:
        path = at.expand(word)
    except DockerfileError as error:
        if word.count('"') % 2 or word.count("'") % 2:
            error.hint = (
                f'paths with spaces need the JSON form: {"ADD" if item.is_add else "COPY"} ["a b", "c/"]'
            )
        raise
    if item.is_add and _URL.match(path):
        hint = "RUN a download, or COPY it from the context"
        raise at.unsupported(f"{path[:80]} as a source of ADD", hint, word)
    if not path:
        raise at.fail(f"the source {word!r} is empty", word, "is its variable set?")
    return path


def _owner(at: Lowering, item: Copy) -> str:
    owner = at.expand(item.chown) if item.chown else ""
    if item.chown and (not owner or owner.startswith(":")):
        raise at.fail(
            f"--chown={item.chown} names no user", "--chown", "e.g. --chown=app:app or --chown=1000"
        )
    return owner


def _mode(at: Lowering, item: Copy) -> str:
    if not item.chmod:
        return ""
    text = at.expand(item.chmod)
    mode = normal_mode(text)
    if mode is None:
        raise at.fail(f"not a mode: {text[:60]!r}", "--chmod", "e.g. --chmod=755 or --chmod=u=rwX,go=rX")
    return mode


def _described(item: Copy, words: list[str], owner: str, mode: str) -> str:
    flags = [("from", item.from_), ("chown", owner), ("chmod", mode and item.chmod)]
    shown = [f"--{name}={value}" for name, value in flags if value]
    return " ".join(["ADD" if item.is_add else "COPY", *shown, *(["--link"] if item.link else []), *words])


def workdir(at: Lowering, item: Workdir) -> WorkdirOp:
    text = at.expand(item.path)
    if not text:
        raise at.fail(f"WORKDIR {item.path} is empty", item.path, "is its variable set?")
    path = clean(text, at.state.workdir)
    return WorkdirOp(
        configured(at.state, WorkingDir=path), path, f"WORKDIR {path}", item.location, at.state.user
    )
