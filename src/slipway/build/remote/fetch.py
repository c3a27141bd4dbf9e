"""What was fetched, kept below one directory by where it came from and by what opened it."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from slipway.base.trees import remove_tree
from slipway.build.context import Context
from slipway.build.remote.credentials import NOBODY, Credentials, place_of
from slipway.build.remote.git import fetch_git
from slipway.build.remote.held import HeldFile
from slipway.build.remote.http import fetch_http
from slipway.build.remote.names import GitSource, HttpSource, RemoteSource
from slipway.build.tree import OpenContext
from slipway.distribution.addresses import ANYWHERE, Reach
from slipway.errors import Invalid, NotFound

_GIT = ".git"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A tree, and the path in it that was asked for.

    ``revision`` is a commit or a checksum; ``committed`` the commit's time in seconds since 1970.
    """

    tree: OpenContext
    path: str
    revision: str
    committed: int | None = None


class Fetching(Protocol):
    """Fetches; ``Remotes`` does it here."""

    def fetched(
        self, source: RemoteSource, credentials: Credentials = ...
    ) -> AbstractAsyncContextManager[Fetched]:
        """The tree, open for as long as the block runs. Raises what is wrong with the address or the host."""
        ...


class Remotes:
    """Fetches, one at a time for one address. ``directory/<sha256>/`` keeps what was fetched, by the address
    and by what opened it: who cannot open it does not get what somebody else fetched.
    ``reach``: where they may be.

    What was fetched is used by any number at the same time, since nothing of it changes any more: a commit has a
    directory of its own, and a file that is replaced stays what it was for those who have it open.
    """

    def __init__(self, directory: Path, reach: Reach = ANYWHERE) -> None:
        self._directory = directory
        self._reach = reach
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._users: Counter[str] = Counter()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    @asynccontextmanager
    async def fetched(
        self, source: RemoteSource, credentials: Credentials = NOBODY
    ) -> AsyncIterator[Fetched]:
        """The tree, open for as long as the block runs. Raises what is wrong with the address or the host."""
        is_file = isinstance(source, HttpSource)
        authorization = (credentials.for_file if is_file else credentials.for_repository)(source.url)
        name = place_of(source.url, authorization)
        directory = self._directory / name
        self._users[name] += 1
        try:
            async with self._locks[name]:
                directory.mkdir(exist_ok=True, mode=0o700)
                os.utime(directory)
                if isinstance(source, HttpSource):
                    found = await self._file(source, directory, credentials)
                else:
                    found = await self._tree(source, directory, credentials)
            with closing(found.tree):
                yield found
        finally:
            self._users[name] -= 1

    async def prune(self, age: timedelta) -> int:
        """Remove what nobody asked for within ``age``; how many addresses that were."""
        removed = 0
        for directory in await asyncio.to_thread(lambda: list(self._directory.iterdir())):
            async with self._locks[directory.name]:
                old = time.time() - directory.stat().st_mtime > age.total_seconds()
                if old and not self._users[directory.name]:
                    await asyncio.to_thread(remove_tree, directory)
                    removed += 1
        return removed

    async def _file(self, source: HttpSource, directory: Path, credentials: Credentials) -> Fetched:
        file = await fetch_http(source, directory, credentials, self._reach)
        return Fetched(HeldFile(file), file.name, source.checksum)

    async def _tree(self, source: GitSource, directory: Path, credentials: Credentials) -> Fetched:
        path, commit, committed = await fetch_git(source, directory, credentials, self._reach)
        tree = Context(path, _nothing if source.keep_git_dir else _git_directory)
        try:
            real = await asyncio.to_thread(tree.resolve, source.subdir)
            entry = await asyncio.to_thread(tree.lstat, real) if real is not None else None
            if real is None or entry is None:
                raise NotFound(f"{source.url} has no {source.subdir!r} in {source.ref or 'HEAD'}")
            if entry.kind != "dir":
                raise Invalid(f"{source.subdir!r} is no directory of {source.url}")
        except BaseException:
            tree.close()
            raise
        return Fetched(tree, real, commit, committed)


def _git_directory(path: str, is_directory: bool) -> bool:
    return path == _GIT or path.startswith(f"{_GIT}/")


def _nothing(path: str, is_directory: bool) -> bool:
    return False
