"""Every digest that something references: what collection must keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from sqlalchemy import text

from slipway.oci import Digest
from slipway.state import Database

_PAGE = 5000
_QUERIES: tuple[tuple[str, int | str], ...] = (
    ("SELECT id, digest FROM manifests WHERE id > :after ORDER BY id LIMIT :count", 0),
    *(
        (
            f"SELECT DISTINCT {name}, {name} FROM {table} WHERE {name} > :after ORDER BY {name} LIMIT :count",
            "",
        )
        for table, name in (
            ("manifest_references", "digest"),
            ("build_cache", "layer_digest"),
            ("shared_files", "digest"),
        )
    ),
)


class Roots:
    """In pages, however many there are.

    Each page is of its own moment. That is enough: a reference that is there all the time is on the page of its key,
    and who makes a new one holds a lease of the blob meanwhile.
    """

    def __init__(self, database: Database, page: int = _PAGE) -> None:
        self._database = database
        self._page = page

    async def pages(self) -> AsyncIterator[list[Digest]]:
        """Some digests more than once."""
        for query, after in _QUERIES:
            while True:
                async with self._database.read() as session:
                    values = {"after": after, "count": self._page}
                    rows = (await session.execute(text(query), values)).all()
                if not rows:
                    break
                yield [Digest.parse(digest) for _, digest in rows]
                after = rows[-1][0]

    def from_thread(self, loop: asyncio.AbstractEventLoop) -> Iterator[Digest]:
        """All of them, for a thread: the questions are asked on ``loop``, which must not wait for this thread."""
        pages = self.pages()

        async def following() -> list[Digest] | None:
            return await anext(pages, None)

        while (page := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not None:
            yield from page
