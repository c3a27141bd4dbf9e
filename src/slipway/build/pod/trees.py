"""Contexts, and what comes from elsewhere, as the server lists them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from slipway.base.ids import new_id
from slipway.build.listing import ListedContext, ListedFile
from slipway.build.pod.server import Server
from slipway.build.pods import forms
from slipway.build.pods.forms import tree_number
from slipway.build.remote import NOBODY, Credentials, Fetched, RemoteSource
from slipway.errors import Invalid


class ServersTrees:
    """Contexts and what comes from elsewhere, as lists whose files are fetched when a step copies them."""

    def __init__(self, server: Server, files: Path) -> None:
        self._server = server
        self._files = files
        files.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, name: Path) -> ListedContext:
        """The context of this name. Blocks."""
        return self._server.wait(self._opened(tree_number(name)))

    @asynccontextmanager
    async def fetched(
        self, source: RemoteSource, _credentials: Credentials = NOBODY
    ) -> AsyncIterator[Fetched]:
        """The server fetches, with what the build's secrets open for it."""
        found = await self._server.ask("fetch", source=forms.source_to_json(source))
        yield Fetched(await self._opened(found["tree"]), found["path"], found["revision"])

    async def _opened(self, number: int) -> ListedContext:
        lines = await self._server.tree(number)

        def fetch(files: Sequence[ListedFile]) -> None:
            self._server.wait(self._fetch(number, files))

        return await self._server.taken(ListedContext, lines, self._files, fetch)

    async def _fetch(self, number: int, files: Sequence[ListedFile]) -> None:
        writer = _Writer(files)
        try:
            async with self._server.files(number, [item.index for item in files]) as pieces:
                async for piece in pieces:
                    await self._server.taken(writer.take, piece)
            await self._server.taken(writer.finish)
        finally:
            writer.close()


class _Writer:
    """Files out of a stream of their contents, each verified, complete once it is there."""

    def __init__(self, files: Sequence[ListedFile]) -> None:
        self._files = iter(files)
        self._file: ListedFile | None = None
        self._fd = -1
        self._draft = Path()
        self._left = 0
        self._next()

    def take(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._file is None:
                raise Invalid("the server sent more than was asked for")
            part = view[: self._left]
            self._hasher.update(part)
            view = view[len(part) :]
            self._left -= len(part)
            while part:
                part = part[os.write(self._fd, part) :]
            if not self._left:
                self._end()

    def finish(self) -> None:
        if self._file is not None:
            raise Invalid("the context changed while it was read", hint="run the same again")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._draft.unlink(missing_ok=True)

    def _next(self) -> None:
        self._file = next(self._files, None)
        if self._file is None:
            return
        self._draft = self._file.path.with_name(f".new-{new_id()}")
        self._fd = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._left = self._file.size
        self._hasher = hashlib.sha256()
        if not self._left:
            self._end()

    def _end(self) -> None:
        assert self._file is not None
        if self._hasher.digest() != self._file.digest:
            raise Invalid("a file of the context changed while it was read", hint="run the same again")
        os.close(self._fd)
        self._fd = -1
        os.rename(self._draft, self._file.path)
        self._next()
