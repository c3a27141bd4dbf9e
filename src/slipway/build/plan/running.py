"""RUN, with its heredocs and mounts."""

from __future__ import annotations

from dataclasses import replace

from slipway.build.dockerfile import BindMount, CacheMount, Mount, Run, opening
from slipway.build.plan import steering
from slipway.build.plan.lowering import Lowering, clean
from slipway.build.plan.metadata import in_shell
from slipway.build.plan.operations import RunOp, Source
from slipway.build.plan.scope import PROXIES
from slipway.build.plan.sources import source_of

_SCRIPTS = "/dev/pipes"
_SHOWN = 200


def run(at: Lowering, item: Run) -> RunOp:
    mounts = tuple(_placed(at, mount.typed(at.expand, at.fail)) for mount in item.mounts)
    sources = tuple(_source(at, mount) for mount in mounts)
    argv, files = _command(at, item)
    env = at.values
    proxies = ((name, at.plan.build_args[name]) for name in sorted(PROXIES & at.plan.build_args.keys()))
    return RunOp(
        tuple(argv), tuple(env.items()), tuple(pair for pair in proxies if pair[0] not in env),
        at.state.workdir, at.state.user, item.network, _described(item), item.location, item.security, mounts, sources,
        files, item.devices, steering.hostname(at.plan.build_args),
    )  # fmt: skip


def _placed(at: Lowering, mount: Mount) -> Mount:
    """With an absolute target: a relative one begins at the WORKDIR."""
    if isinstance(mount, CacheMount):
        mount = replace(mount, id=steering.cache_id(at.plan.build_args, mount.id))
    if not mount.target:
        return mount
    target = clean(mount.target, at.state.workdir)
    if target == "/":
        raise at.fail("a mount cannot cover the whole root", "--mount", "give it a target below /")
    return replace(mount, target=target)


def _source(at: Lowering, mount: Mount) -> Source | None:
    if isinstance(mount, BindMount) or (isinstance(mount, CacheMount) and mount.from_):
        return source_of(at, mount.from_)
    return None


def _command(at: Lowering, item: Run) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """The argument vector, and the files it needs.

    A heredoc alone is a script: for the shell, or, with a first line of ``#!``, for what that says. Beside a command
    the shell itself reads the heredocs, as it would anywhere.
    """
    if item.exec_form or not item.heredocs:
        return in_shell(at, item.words, item.exec_form), ()
    text, first = item.words[0], item.heredocs[0]
    alone = opening(text)
    if alone is None or alone.name != first.name:
        bodies = "".join(f"\n{document.content}{document.name}" for document in item.heredocs)
        return [*at.state.shell, f"{text}{bodies}\n"], ()
    if first.text.startswith("#!"):
        path = f"{_SCRIPTS}/{first.name}"
        return [path], ((path, first.text),)
    return [*at.state.shell, first.text], ()


def _described(item: Run) -> str:
    if not item.heredocs:
        return item.original
    lines = item.heredocs[0].text.strip().splitlines() or [""]
    return f"{item.original} ({lines[0][:_SHOWN]}{'…' if len(lines) > 1 else ''})"
