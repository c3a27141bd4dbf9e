"""A tree of a git repository, by the system's git, which is given as little as it can do with."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from slipway.base.process import Completed, run
from slipway.base.trees import remove_tree
from slipway.build.remote.credentials import NOBODY, Credentials
from slipway.build.remote.names import GitSource
from slipway.distribution.addresses import ANYWHERE, Reach, check_host
from slipway.errors import Failed, NotFound, Unavailable, Unsupported

_SECONDS = 1800
_DEPTH, _MANY = 10, 1000
_LINK = b"160000 "
# What git adds to what ssh said.
_SAYS_NOTHING = (
    "fatal: Could not read from remote repository.", "Please make sure you have the correct access rights",
    "and the repository exists.",
)  # fmt: skip
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


class _Git:
    """The system's git for one fetch, with what the build's secrets say for its hosts."""

    def __init__(self, credentials: Credentials, reach: Reach) -> None:
        self._credentials = credentials
        self.reach = reach

    async def __call__(
        self,
        where: Path | None,
        *words: str,
        check: bool = True,
        local: bool = False,
        urls: Iterable[str] = (),
    ) -> Completed:
        """``urls`` are the addresses that it will ask. Secrets go by the environment, which only root can read."""
        settings = [item for pair in _CONFIGURATION for item in ("-c", pair)]
        environment = dict(_ENVIRONMENT)
        if local:
            settings += ["-c", "protocol.file.allow=always"]
            environment["GIT_ALLOW_PROTOCOL"] = "file"
        headers = {_origin(url): word for url in urls if (word := self._credentials.for_repository(url))}
        for number, (host, word) in enumerate(headers.items()):
            environment[f"GIT_CONFIG_KEY_{number}"] = f"http.{host}/.extraHeader"
            environment[f"GIT_CONFIG_VALUE_{number}"] = f"Authorization: {word}"
        if headers:
            environment["GIT_CONFIG_COUNT"] = str(len(headers))
        place = ["-C", str(where)] if where is not None else []
        return await run(["git", *settings, *place, *words], check=check, timeout=_SECONDS, env=environment)


def _origin(url: str) -> str:
    """The scheme, host and port of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def fetch_git(
    source: GitSource, directory: Path, credentials: Credentials = NOBODY, reach: Reach = ANYWHERE
) -> tuple[Path, str, int]:
    """Fetch into ``directory``, which keeps objects for the next time; the tree's directory, its commit and its time.

    Raises ``NotFound`` for a ref that is not there, ``Denied``, ``Unavailable``, ``Failed`` for a wrong checksum.
    """
    git = _Git(credentials, reach)
    await _check(source.url, reach)
    repository, made = directory / "repository", directory / "making"
    await asyncio.to_thread(remove_tree, made)
    if not (repository / "HEAD").exists():
        await asyncio.to_thread(remove_tree, repository)
        await git(None, "init", "--quiet", "--bare", str(made))
        made.rename(repository)
    await asyncio.to_thread(_unlock, repository)
    commit = await _commit(git, repository, source)
    if source.checksum and not commit.startswith(source.checksum):
        raise Failed(
            f"{source.url} {source.ref or 'HEAD'} is the commit {commit}, not {source.checksum}",
            hint="it has moved: look at what it is now, then change the checksum",
        )
    tree = directory / commit
    if not (tree / ".git").exists():
        await _checkout(git, repository, source.url, commit, made)
        await asyncio.to_thread(remove_tree, tree)
        made.rename(tree)
    when = await git(repository, "show", "--no-patch", "--format=%ct", commit)
    return tree, commit, int(when.stdout.split()[-1])


def _unlock(repository: Path) -> None:
    """A git that was killed leaves its locks, and nobody else works in here: the next one would be refused for ever."""
    for path in (*repository.glob("*.lock"), *(repository / "refs").rglob("*.lock")):
        path.unlink(missing_ok=True)


async def _commit(git: _Git, repository: Path, source: GitSource) -> str:
    """Fetch the commit that ``ref`` means now, and no history; which one it is."""
    ref = source.ref or "HEAD"
    if _COMMIT.fullmatch(ref):
        known = await git(repository, "cat-file", "-e", f"{ref}^{{commit}}", check=False)
        if known.returncode == 0:
            return ref
    asked = (source.url,)
    done = await git(
        repository,
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        "--",
        source.url,
        ref,
        check=False,
        urls=asked,
    )
    if done.returncode and _COMMIT.fullmatch(ref):
        # A server that does not give single commits gives its branches.
        every = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        done = await git(repository, "fetch", "--quiet", "--", source.url, *every, check=False, urls=asked)
        if done.returncode == 0:
            return ref
    if done.returncode:
        raise _failure(done, source.url, ref)
    found = await git(repository, "rev-parse", "--verify", "FETCH_HEAD^{commit}")
    return found.stdout.decode().strip()


async def _checkout(git: _Git, repository: Path, url: str, commit: str, target: Path) -> None:
    """A working tree with a ``.git`` of its own, submodules included."""
    await git(None, "init", "--quiet", str(target))
    await git(target, "fetch", "--quiet", "--no-tags", "--depth=1", str(repository), commit, local=True)
    await git(target, "checkout", "--quiet", "--force", "FETCH_HEAD")
    await git(target, "remote", "add", "origin", url)
    await _submodules(git, target, url)


async def _submodules(git: _Git, top: Path, url: str) -> None:
    """Those of the tree and those of each of them, down to a depth; every address is held to the same rules."""
    level = [(top, url)]
    for _ in range(_DEPTH):
        below: list[tuple[Path, str]] = []
        for tree, address in level:
            below += await _submodules_of(git, tree, address)
            if len(below) > _MANY:
                raise Failed(f"{url} has more than {_MANY} submodules on one level")
        level = [item for item in below if _has_modules(item[0])]
        if not level:
            return
    raise Failed(f"the submodules of {url} are more than {_DEPTH} deep")


async def _submodules_of(git: _Git, tree: Path, url: str) -> list[tuple[Path, str]]:
    """Fetch the submodules of one tree; where each is and where it came from."""
    if not _has_modules(tree):
        return []
    words = ("config", "--file", ".gitmodules", "--null", "--get-regexp", r"^submodule\..*\.url$")
    listed = await git(tree, *words, check=False)
    # A name and its value in two lines: a name may have spaces in it.
    values = [item.partition("\n")[2] for item in listed.stdout.decode(errors="replace").split("\0") if item]
    addresses = [urljoin(f"{url}/", value) for value in values]
    for address in addresses:
        await _check(address, git.reach)
    done = await git(
        tree, "submodule", "--quiet", "update", "--init", "--depth=1", check=False, urls=addresses
    )
    if done.returncode:
        raise _failure(done, url, "its submodules")
    found, real = [], tree.resolve()
    links = await git(tree, "ls-files", "--stage", "-z")
    for record in links.stdout.split(b"\0"):
        about, _, name = record.partition(b"\t")
        path = tree / os.fsdecode(name)
        if (
            about.startswith(_LINK)
            and (path / ".git").exists()
            and path.resolve() == real / os.fsdecode(name)
        ):
            origin = await git(path, "config", "remote.origin.url", check=False)
            found.append((path, origin.stdout.decode(errors="replace").strip()))
    return found


def _has_modules(tree: Path) -> bool:
    return (tree / ".gitmodules").is_file() and not (tree / ".gitmodules").is_symlink()


async def _check(url: str, reach: Reach) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "git", "ssh") or not parts.hostname:
        raise Failed(f"{url[:200]!r} is no address of a repository that builds may use")
    if parts.scheme == "ssh" and not await asyncio.to_thread(shutil.which, "ssh"):
        raise Unsupported(
            f"{url[:200]!r} cannot be fetched: this server has no ssh, as API servers on a cluster have none",
            hint="use its https:// address; --secret id=GIT_AUTH_TOKEN,env=NAME opens a private one",
        )
    await check_host(parts.hostname, parts.port or 443, reach)


def _failure(done: Completed, url: str, what: str) -> Exception:
    said = done.stderr.decode(errors="replace").splitlines()
    lines = [line for line in said if line.strip() and line.strip() not in _SAYS_NOTHING]
    text = lines[-1][:300] if lines else f"status {done.returncode}"
    if "couldn't find remote ref" in text or "not our ref" in text:
        return NotFound(f"{url} has no {what!r}", hint="a branch, a tag or a whole commit")
    hint = "give a secret: --secret id=GIT_AUTH_TOKEN,env=NAME" if "could not read Username" in text else ""
    return Unavailable(f"{url}: {what} cannot be fetched: {text}", hint=hint)
