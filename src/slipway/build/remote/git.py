"""A tree of a git repository, by the system's git, which is given as little as it can do with."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from slipway.base.process import Completed, run
from slipway.base.trees import remove_tree
from slipway.build.remote.names import GitSource
from slipway.distribution.addresses import check_host
from slipway.errors import Failed, NotFound, Unavailable

_SECONDS = 1800
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Whatever a repository says, no program of its is run, no other protocol spoken, no question asked.
_CONFIGURATION = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "protocol.ext.allow=never", "protocol.file.allow=never",
    "http.followRedirects=false", "submodule.recurse=false", "advice.detachedHead=false", "gc.auto=0",
    "core.protectNTFS=true", "filter.lfs.required=false", "transfer.fsckObjects=true", "init.defaultBranch=main",
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "/bin/false", "HOME": "/nonexistent",
    "GIT_ALLOW_PROTOCOL": "https:http:git:ssh", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C",
    "XDG_CONFIG_HOME": "/nonexistent",
    "GIT_SSH_COMMAND": "ssh -F /dev/null -oBatchMode=yes -oStrictHostKeyChecking=yes",
}  # fmt: skip


async def fetch_git(source: GitSource, directory: Path) -> tuple[Path, str]:
    """Fetch into ``directory``, which keeps objects for the next time; the tree's directory and its commit.

    Raises ``NotFound`` for a ref that is not there, ``Denied``, ``Unavailable``, ``Failed`` for a wrong checksum.
    """
    await _check(source.url)
    if not (directory / "repository" / "HEAD").exists():
        await _git(None, "init", "--quiet", "--bare", str(directory / "repository"))
    repository = directory / "repository"
    commit = await _commit(repository, source)
    if source.checksum and not commit.startswith(source.checksum):
        raise Failed(
            f"{source.url} {source.ref or 'HEAD'} is the commit {commit}, not {source.checksum}",
            hint="it has moved: look at what it is now, then change the checksum",
        )
    tree = directory / commit
    if not (tree / ".git").exists():
        made = directory / "making"
        await asyncio.to_thread(remove_tree, made)
        await _checkout(repository, source.url, commit, made)
        await asyncio.to_thread(remove_tree, tree)
        made.rename(tree)
    return tree, commit


async def _commit(repository: Path, source: GitSource) -> str:
    """Fetch the commit that ``ref`` means now, and no history; which one it is."""
    ref = source.ref or "HEAD"
    if _COMMIT.fullmatch(ref):
        known = await _git(repository, "cat-file", "-e", f"{ref}^{{commit}}", check=False)
        if known.returncode == 0:
            return ref
    done = await _git(
        repository, "fetch", "--quiet", "--depth=1", "--no-tags", "--", source.url, ref, check=False
    )
    if done.returncode and _COMMIT.fullmatch(ref):
        # A server that does not give single commits gives its branches.
        every = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        done = await _git(repository, "fetch", "--quiet", "--", source.url, *every, check=False)
        if done.returncode == 0:
            return ref
    if done.returncode:
        raise _failure(done, source.url, ref)
    found = await _git(repository, "rev-parse", "--verify", "FETCH_HEAD^{commit}")
    return found.stdout.decode().strip()


async def _checkout(repository: Path, url: str, commit: str, target: Path) -> None:
    """A working tree with a ``.git`` of its own, submodules included."""
    await _git(None, "init", "--quiet", str(target))
    await _git(target, "fetch", "--quiet", "--no-tags", "--depth=1", str(repository), commit, local=True)
    await _git(target, "checkout", "--quiet", "--force", "FETCH_HEAD")
    await _git(target, "remote", "add", "origin", url)
    if (target / ".gitmodules").is_file() and not (target / ".gitmodules").is_symlink():
        await _submodules(target, url)


async def _submodules(target: Path, url: str) -> None:
    """The first level: each address is held to the same rules."""
    listed = await _git(
        target, "config", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.url$", check=False
    )
    for line in listed.stdout.decode(errors="replace").splitlines():
        await _check(urljoin(f"{url}/", line.partition(" ")[2]))
    done = await _git(target, "submodule", "--quiet", "update", "--init", "--depth=1", check=False)
    if done.returncode:
        raise _failure(done, url, "its submodules")


async def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "git", "ssh") or not parts.hostname:
        raise Failed(f"{url[:200]!r} is no address of a repository that builds may use")
    await check_host(parts.hostname, parts.port or 443)


def _failure(done: Completed, url: str, what: str) -> Exception:
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    text = lines[-1][:300] if lines else f"status {done.returncode}"
    if "couldn't find remote ref" in text or "not our ref" in text:
        return NotFound(f"{url} has no {what!r}", hint="a branch, a tag or a whole commit")
    return Unavailable(f"{url}: {what} cannot be fetched: {text}")


async def _git(where: Path | None, *words: str, check: bool = True, local: bool = False) -> Completed:
    settings = [item for pair in _CONFIGURATION for item in ("-c", pair)]
    environment = dict(_ENVIRONMENT)
    if local:
        settings += ["-c", "protocol.file.allow=always"]
        environment["GIT_ALLOW_PROTOCOL"] = "file"
    place = ["-C", str(where)] if where is not None else []
    return await run(["git", *settings, *place, *words], check=check, timeout=_SECONDS, env=environment)
