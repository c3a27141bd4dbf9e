"""A build context as the tar that a Docker daemon is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from slipway.base.ids import new_id
from slipway.build.context import Context
from slipway.build.ignore import IgnoreFile
from slipway.build.listing import gather
from slipway.build.request import SolveRequest
from slipway.build.tree import OpenContext
from slipway.errors import NotFound
from slipway.layers import Entry, tar_blocks

OpenContexts = Callable[[Path], OpenContext]
_IGNORE = ".dockerignore"
_MAX = 16 * 1024 * 1024


class Sending:
    """The tar of one context, in pieces. ``dockerfile`` is what the Dockerfile is called in it.

    The Dockerfile goes under a name of its own, which the ignore file that is sent along hides from COPY: so it may be
    inline, or ignored, as with Docker's own client.
    """

    def __init__(self, request: SolveRequest, opening: OpenContexts = Context) -> None:
        self._opening = opening
        self.dockerfile = f".dockerfile.{new_id()}"
        self._request = request

    async def pieces(self) -> AsyncIterator[bytes]:
        pieces = self._tar()
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            await asyncio.to_thread(pieces.close)

    def _tar(self) -> Generator[bytes, None, None]:
        with closing(self._opening(self._request.context)) as context:
            text = self._text(context)
            names = (f"{self._request.dockerfile}.dockerignore", _IGNORE)
            ignored = next((found for name in names if (found := _read(context, name))), b"")
            rules = ignored.decode(errors="replace") + ("\n.git\n" if self._request.from_git else "")
            if rules.strip():
                context.with_excludes(IgnoreFile.parse(rules))
            hidden = f"{rules}\n{self.dockerfile}\n".encode()
            if not ignored:
                hidden += f"{_IGNORE}\n".encode()
            yield from tar_blocks(self._entries(context, text, hidden))

    def _entries(self, context: OpenContext, text: bytes, ignored: bytes) -> Iterator[Entry]:
        yield _document(self.dockerfile, text)
        yield _document(_IGNORE, ignored)
        pending = [""]
        while pending:
            found = sorted(context.iterdir(pending.pop()), key=lambda item: item.path)
            gather(found)
            for entry in found:
                if entry.path == _IGNORE:
                    continue
                yield replace(entry, mtime=int(entry.mtime))
                if entry.kind == "dir":
                    pending.append(entry.path)

    def _text(self, context: OpenContext) -> bytes:
        if self._request.inline is not None:
            return self._request.inline.encode("utf-8", "surrogateescape")
        found = _read(context, self._request.dockerfile)
        if not found:
            raise NotFound(
                f"there is no {self._request.dockerfile!r} in the build context", hint="name it with -f"
            )
        return found


def _read(context: OpenContext, name: str) -> bytes:
    real = context.resolve(name)
    if real is None:
        return b""
    with context.open(real) as handle:
        return handle.read(_MAX)


def _document(path: str, data: bytes) -> Entry:
    return Entry(path, "file", 0o644, size=len(data), chunks=lambda: iter([data]))
