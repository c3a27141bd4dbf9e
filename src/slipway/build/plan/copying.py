"""COPY, ADD and WORKDIR."""

from __future__ import annotations

from slipway.build.dockerfile import Copy, DockerfileError, Workdir, expand, opening
from slipway.build.plan.lowering import Lowering, clean, configured
from slipway.build.plan.modes import normal_mode
from slipway.build.plan.operations import CopyOp, WorkdirOp
from slipway.build.plan.sources import source_of
from slipway.build.remote.names import HttpSource, RemoteSource, parse_remote
from slipway.errors import Invalid


def copy(at: Lowering, item: Copy) -> CopyOp:
    words, heredocs = _sources(at, item)
    named = [(word, _remote(at, item, word)) for word in words]
    sources, remotes = (
        tuple(word for word, remote in named if remote is None),
        [remote for _, remote in named if remote],
    )
    if item.checksum and (len(words) != 1 or not remotes):
        raise at.fail("--checksum is for one address", "--checksum", "ADD each address by itself")
    dest = at.expand(item.dest)
    absolute = clean(dest, at.state.workdir)
    if absolute != "/" and (dest in ("", ".") or dest.endswith(("/", "/."))):
        absolute += "/"
    owner, mode = _owner(at, item), _mode(at, item)
    return CopyOp(
        source_of(at, item.from_), sources, absolute, owner, mode, item.is_add and item.unpack is not False, heredocs,
        _described(item, [*words, *(f"<<{name}" for name, _ in heredocs), dest], owner, mode), item.location,
        item.link, item.parents, tuple(at.expand(pattern) for pattern in item.exclude), tuple(remotes),
        bool(item.unpack),
    )  # fmt: skip


def _remote(at: Lowering, item: Copy, word: str) -> RemoteSource | None:
    """What ADD fetches; COPY knows paths only."""
    if not item.is_add:
        return None
    try:
        found = parse_remote(word, checksum=at.expand(item.checksum), keep_git_dir=item.keep_git_dir)
    except Invalid as error:
        raise at.fail(error.message, word, error.hint) from error
    if isinstance(found, HttpSource) and not found.name and item.dest.endswith("/"):
        raise at.fail(f"{word[:100]} has no file name", word, "name the file: a destination without '/'")
    return found


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
